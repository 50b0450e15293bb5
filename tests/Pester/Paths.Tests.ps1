BeforeDiscovery {
    $names = @{ name = 'plain' }, @{ name = 'with spaces' }, @{ name = '[brackets]' }, @{ name = 'a[b-d]e' }, @{ name = "Gr$([char] 0xF6)$([char] 0xDF)e $([char] 0x5C64)" }, @{ name = 'quo''te' }, @{ name = '$dollar' }, @{ name = 'tick`t' }
}

BeforeAll {
    . "$PSScriptRoot/Session.ps1"

    $base = [IO.Path]::Combine($Fixtures, 'bases', 'llama-bf16')
    $adapter = [IO.Path]::Combine($Fixtures, 'cases', 'lora-all-linear', 'adapter')

    function Copy-Folder([string] $From, [string] $To) {
        $null = [IO.Directory]::CreateDirectory($To)
        foreach ($file in [IO.Directory]::GetFiles($From)) { [IO.File]::Copy($file, [IO.Path]::Combine($To, [IO.Path]::GetFileName($file)), $true) }
    }
}

Describe 'Paths' {
    It 'may be called <name>' -ForEach $names {
        $folder = [IO.Path]::Combine($TestDrive, $name)
        Copy-Folder $base "$folder/base"
        Copy-Folder $adapter "$folder/adapter"
        (Merge-LoraModel "$folder/base" "$folder/adapter" | Save-MergedModel "$folder/out").Path | Should -Be ([IO.Path]::Combine($folder, 'out', 'model.safetensors'))
        [IO.File]::Exists("$folder/out/model.safetensors") | Should -BeTrue
        @(Get-ModelTensor "$folder/out") | Should -HaveCount 21
        @(Get-ModelTensor -LiteralPath "$folder/out") | Should -HaveCount 21
        @(Get-LoraAdapter "$folder/adapter" -Base "$folder/base") | Should -HaveCount 1
        @(Get-MergeMemoryPlan "$folder/base" "$folder/adapter" | Merge-LoraModel -ErrorAction Stop) | Should -HaveCount 21
    }

    It 'are relative to the location of the session' {
        $folder = [IO.Path]::Combine($TestDrive, 'here')
        Copy-Folder $base "$folder/base"
        Copy-Folder $adapter "$folder/adapter"
        $before = Get-Location
        try {
            Set-Location $folder
            $shard = Merge-LoraModel ./base adapter | Save-MergedModel out
            $shard.Path | Should -Be ([IO.Path]::Combine($folder, 'out', 'model.safetensors'))
            Set-Location base
            @(Get-ModelTensor .) | Should -HaveCount 21
            @(Merge-LoraModel . ../adapter) | Should -HaveCount 21
        }
        finally {
            Set-Location $before
        }
        [IO.Directory]::GetCurrentDirectory() | Should -Not -Be $folder
    }

    It 'may be drives of PowerShell''s' -Tag 'Needs:New-PSDrive' {
        $folder = [IO.Path]::Combine($TestDrive, 'drive')
        Copy-Folder $base "$folder/base"
        $null = New-PSDrive -Name UnslothMergeTest -PSProvider FileSystem -Root $folder -Scope Script
        (Merge-LoraModel UnslothMergeTest:/base $adapter | Save-MergedModel UnslothMergeTest:/out).Path | Should -Exist
        Remove-PSDrive UnslothMergeTest
    }

    It 'may have wildcards where one thing matches' {
        $folder = [IO.Path]::Combine($TestDrive, 'wild')
        Copy-Folder $base "$folder/base-1"
        Copy-Folder $adapter "$folder/style-a"
        Copy-Folder $adapter "$folder/style-b"
        @(Merge-LoraModel "$folder/base-*" "$folder/style-a*") | Should -HaveCount 21
        (Get-MergeMemoryPlan "$folder/base-?" "$folder/style-*").Adapter | Should -HaveCount 2
    }

    It 'must mean something, and one thing where one is wanted' {
        $folder = [IO.Path]::Combine($TestDrive, 'wilder')
        Copy-Folder $base "$folder/base-1"
        Copy-Folder $base "$folder/base-2"
        { Merge-LoraModel "$folder/base-*" $adapter } | Should -Throw '*base-1*base-2*' -ErrorId 'InvalidArgument,*'
        { Merge-LoraModel "$folder/none-*" $adapter } | Should -Throw '*none-`**' -ErrorId 'InvalidArgument,*'
        { Get-LoraAdapter $adapter -Base "$folder/base-*" } | Should -Throw -ErrorId 'InvalidArgument,*'

        # Without this the base would be saved as if it had been merged.
        { Merge-LoraModel "$folder/base-1" "$folder/none-*" } | Should -Throw '*none-`**' -ErrorId 'InvalidArgument,*'
        { Get-MergeMemoryPlan "$folder/base-1" $adapter, "$folder/none-*" } | Should -Throw '*none-`**' -ErrorId 'InvalidArgument,*'
    }

    It 'are of the file system' {
        { Merge-LoraModel env:PATH $adapter } | Should -Throw '*Environment*' -ErrorId 'InvalidArgument,*'
        { Merge-LoraModel $base Function:/prompt } | Should -Throw '*Function*' -ErrorId 'InvalidArgument,*'
        { Merge-LoraModel $base $adapter | Save-MergedModel variable:out } | Should -Throw '*Variable*' -ErrorId 'InvalidArgument,*'
        { Get-MergeMemoryPlan $base $adapter -Destination env:out } | Should -Throw '*Environment*' -ErrorId 'InvalidArgument,*'
        { Get-LoraAdapter $adapter -Base alias:x } | Should -Throw '*Alias*' -ErrorId 'InvalidArgument,*'
    }

    It 'are of a drive that there is' {
        $failure = { Merge-LoraModel nosuchdrive:/base $adapter } | Should -Throw '*nosuchdrive*' -ErrorId 'DriveNotFound,*' -PassThru
        $failure.CategoryInfo.Category | Should -Be 'ObjectNotFound'
    }

    It 'may be the home' {
        $model = [IO.Path]::Combine([Environment]::GetFolderPath('UserProfile'), 'unslothmerge-no-such')
        (Get-ModelTensor ~/unslothmerge-no-such 2>&1).TargetObject | Should -Be $model
    }

    It 'concern only themselves where they are several' {
        $found = @(Get-LoraAdapter $adapter, /nowhere, env:x, nosuchdrive:/x, $adapter -ErrorAction SilentlyContinue -ErrorVariable failures)
        $found | Should -HaveCount 2
        $failures.FullyQualifiedErrorId -replace ',.*' | Should -Be 'InvalidAdapter', 'InvalidArgument', 'DriveNotFound'
        $failures.TargetObject | Should -Be '/nowhere', 'env:x', 'nosuchdrive'
        $failures[1].ErrorDetails.RecommendedAction | Should -Match '-Path'
    }
}
