BeforeDiscovery {
    $names = @{ name = 'plain' }, @{ name = 'with spaces' }, @{ name = '[brackets]' }, @{ name = 'a[b-d]e' },
        @{ name = "Gr`u{F6}`u{DF}e `u{5C64}" }, @{ name = 'quo''te' }, @{ name = '$dollar' }, @{ name = 'tick`t' }
}

BeforeAll {
    . "$PSScriptRoot/Session.ps1"

    $base = Get-Base 'llama-bf16'
    $adapter = Get-Adapter 'lora-all-linear'
}

Describe 'Paths' {
    It 'may be called <name>' -ForEach $names {
        $folder = Join-Path $TestDrive $name
        $null = Copy-Folder $base "$name/base"
        $null = Copy-Folder $adapter "$name/adapter"
        (Merge-LoraModel "$folder/base" "$folder/adapter" | Save-MergedModel "$folder/out").Path |
            Should -Be (Join-Path $folder 'out' 'model.safetensors')
        Test-Path -LiteralPath "$folder/out/model.safetensors" | Should -BeTrue
        @(Get-ModelTensor "$folder/out") | Should -HaveCount 21
        @(Get-ModelTensor -LiteralPath "$folder/out") | Should -HaveCount 21
        @(Get-LoraAdapter "$folder/adapter" -Base "$folder/base") | Should -HaveCount 1
        @(Get-MergeMemoryPlan "$folder/base" "$folder/adapter" | Merge-LoraModel -ErrorAction Stop) | Should -HaveCount 21
    }

    It 'are relative to the location of the session' {
        $folder = Join-Path $TestDrive 'here'
        $null = Copy-Folder $base 'here/base'
        $null = Copy-Folder $adapter 'here/adapter'
        Push-Location $folder
        try {
            $shard = Merge-LoraModel ./base adapter | Save-MergedModel out
            $shard.Path | Should -Be (Join-Path $folder 'out' 'model.safetensors')
            Set-Location base
            @(Get-ModelTensor .) | Should -HaveCount 21
            @(Merge-LoraModel . ../adapter) | Should -HaveCount 21
        }
        finally {
            Pop-Location
        }
        [Environment]::CurrentDirectory | Should -Not -Be $folder
    }

    It 'may be drives of PowerShell''s' {
        $folder = Join-Path $TestDrive 'drive'
        $null = Copy-Folder $base 'drive/base'
        $null = New-PSDrive -Name UnslothMergeTest -PSProvider FileSystem -Root $folder -Scope Script
        (Merge-LoraModel UnslothMergeTest:/base $adapter | Save-MergedModel UnslothMergeTest:/out).Path | Should -Exist
        Remove-PSDrive UnslothMergeTest
    }

    It 'may have wildcards where one thing matches' {
        $folder = Join-Path $TestDrive 'wild'
        $null = Copy-Folder $base 'wild/base-1'
        $null = Copy-Folder $adapter 'wild/style-a'
        $null = Copy-Folder $adapter 'wild/style-b'
        @(Merge-LoraModel "$folder/base-*" "$folder/style-a*") | Should -HaveCount 21
        (Get-MergeMemoryPlan "$folder/base-?" "$folder/style-*").Adapter | Should -HaveCount 2
        $file = New-Item "$folder/style-notes.txt"
        try { (Get-MergeMemoryPlan "$folder/base-?" "$folder/style-*").Adapter | Should -HaveCount 2 } finally { $file.Delete() }
    }

    It 'are taken as they are written by -LiteralPath' {
        $folder = Join-Path $TestDrive 'literal'
        $null = Copy-Folder $base 'literal/base'
        $null = Copy-Folder $adapter 'literal/run1'
        $null = Copy-Folder $adapter 'literal/run[2]'
        @(Merge-LoraModel "$folder/base" -LiteralPath "$folder/run[2]" | Save-MergedModel "$folder/out[1]") | Should -HaveCount 1
        (Get-MergeMemoryPlan "$folder/base" -LiteralPath "$folder/run[2]", "$folder/run1").Adapter | Should -HaveCount 2
        Test-MergedModel -LiteralPath "$folder/out[1]" -Base "$folder/base" -Adapter "$folder/run1" -Quiet | Should -BeTrue
        { Merge-LoraModel "$folder/base" -LiteralPath "$folder/run[1]" } | Should -Throw '*run?1?*' -ErrorId 'PathNotFound,*'
        { Test-MergedModel -LiteralPath "$folder/out?1?" -ErrorAction Stop } | Should -Throw -ErrorId 'PathNotFound,*'
        { Merge-LoraModel "$folder/base" "$folder/run1" -LiteralPath x } | Should -Throw -ErrorId 'InvalidOption,*'
        { Test-MergedModel "$folder/out" -LiteralPath x } | Should -Throw -ErrorId 'InvalidOption,*'

        # What Get-Item emits has both a name and a path.
        @(Get-Item -LiteralPath "$folder/run[2]" | Merge-LoraModel "$folder/base") | Should -HaveCount 21
        Push-Location $folder
        try {
            Get-ChildItem -Filter out* | Test-MergedModel -Quiet | Should -BeTrue
            'out[1]' | Test-MergedModel -Quiet | Should -BeTrue
        }
        finally { Pop-Location }
    }

    It 'must mean something, and one thing where one is wanted' {
        $folder = Join-Path $TestDrive 'wilder'
        $null = Copy-Folder $base 'wilder/base-1'
        $null = Copy-Folder $base 'wilder/base-2'
        { Merge-LoraModel "$folder/base-*" $adapter } | Should -Throw '*base-1*base-2*' -ErrorId 'InvalidArgument,*'
        { Merge-LoraModel "$folder/none-*" $adapter } | Should -Throw '*none-`**' -ErrorId 'PathNotFound,*'
        { Get-LoraAdapter $adapter -Base "$folder/base-*" } | Should -Throw -ErrorId 'InvalidArgument,*'

        # Without this the base would be saved as if it had been merged.
        { Merge-LoraModel "$folder/base-1" "$folder/none-*" } | Should -Throw '*none-`**' -ErrorId 'PathNotFound,*'
        { Get-MergeMemoryPlan "$folder/base-1" $adapter, "$folder/none-*" } | Should -Throw '*none-`**' -ErrorId 'PathNotFound,*'
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
        $model = Join-Path $HOME 'unslothmerge-no-such'
        $failure = { Get-ModelTensor ~/unslothmerge-no-such -ErrorAction Stop } | Should -Throw -PassThru
        $failure.TargetObject | Should -Be $model
    }

    It 'concern only themselves where they are several' {
        $paths = $adapter, '/nowhere', 'env:x', 'nosuchdrive:/x', $adapter
        $found = @(Get-LoraAdapter $paths -ErrorAction SilentlyContinue -ErrorVariable failures)
        $found | Should -HaveCount 2
        $failures.FullyQualifiedErrorId -replace ',.*' | Should -Be 'PathNotFound', 'InvalidArgument', 'DriveNotFound'
        $failures.TargetObject | Should -Be '/nowhere', 'env:x', 'nosuchdrive'
        "$($failures[1])" | Should -Match '-Path'
    }
}
