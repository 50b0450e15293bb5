BeforeAll {
    . "$PSScriptRoot/Session.ps1"
    $base = Get-Base 'llama-bf16'
    $adapter = Get-Adapter 'lora-all-linear'

    function Save-Part([string] $Out, [string] $Part, [hashtable] $More = @{}) {
        Merge-LoraModel $base $adapter | Save-MergedModel $Out -Part $Part -MaxShardSize 3kB @More -ErrorAction Stop
    }

    function Get-Contents([string] $Folder) {
        Get-ChildItem $Folder -Recurse -File -Force | Get-FileHash | Sort-Object Path |
            ForEach-Object { '{0} {1}' -f [IO.Path]::GetRelativePath($Folder, $_.Path), $_.Hash }
    }
}

Describe 'A model that is saved in parts' {
    It 'is the one that one machine saves, and its objects are, too' {
        $whole = Merge-LoraModel $base $adapter | Save-MergedModel $TestDrive/whole/out -MaxShardSize 3kB
        $out = Join-Path $TestDrive parts out
        $parts = 3, 1, 2 | ForEach-Object { Save-Part $out "$_/3" }
        $parts.Name | Sort-Object | Should -Be $whole.Name
        Test-Path $out | Should -BeFalse
        $completed = Complete-MergedModel $out
        Get-Contents $out | Should -Be (Get-Contents $TestDrive/whole/out)
        $completed.Path | Should -Be (Get-ChildItem $out/*.safetensors).FullName
        foreach ($property in 'Name', 'Action', 'DType', 'Dimensions', 'Bytes', 'Shard') {
            $completed.Tensors.$property | Should -Be $whole.Tensors.$property -Because $property
        }

        ($completed.Tensors | Where-Object RelativeChange -GT 0).Count | Should -Be 14
        Get-ChildItem (Split-Path $out) -Force | Should -HaveCount 1
    }

    It 'is completed only when all parts are there' {
        $out = Join-Path $TestDrive missing
        $null = Save-Part $out 1/3
        { Complete-MergedModel $out -ErrorAction Stop } | Should -Throw '4 of 7 shards are not there*(part 2/3)*'
        "$($Error[0])" | Should -BeLike '*Save the parts 2/3, 3/3 again.'
        $Error[0].FullyQualifiedErrorId | Should -BeLike 'PartsMissing,*'
        $Error[0].Exception.IsTransient | Should -BeTrue
        $Error[0].Exception.Details | Should -HaveCount 4
    }

    It 'is one model' {
        $out = Join-Path $TestDrive mixed
        $null = Save-Part $out 1/3
        { Save-Part $out 2/3 @{ DType = 'float16' } } | Should -Throw '*are of another model*config.json*'
        $Error[0].FullyQualifiedErrorId | Should -BeLike 'PartsDiffer,*'
        $Error[0].Exception.IsTransient | Should -BeFalse
        { Merge-LoraModel $base $adapter | Save-MergedModel $out -ErrorAction Stop } | Should -Throw '*holds parts*'
        "$($Error[0])" | Should -BeLike '*Complete-MergedModel finishes it*'
        $null = Save-Part $out 2/3 @{ DType = 'float16'; Restart = $true }
    }

    It 'says what a part would write' {
        $out = Join-Path $TestDrive what
        Save-Part $out 2/3 @{ WhatIf = $true } | Should -BeNullOrEmpty
        Get-ChildItem $TestDrive -Force -Filter '.what*' | Should -BeNullOrEmpty
        { Complete-MergedModel $out -ErrorAction Stop } | Should -Throw '*no parts of a model*'
    }

    It 'takes the part from an engine' {
        $out = Join-Path $TestDrive engine
        { Save-Part $out env } | Should -Throw '*no run of an array*'
        try {
            $env:JOB_COMPLETIONS = 2
            0, 1 | ForEach-Object { $env:JOB_COMPLETION_INDEX = $_; $null = Save-Part $out env }
        }
        finally { Remove-Item Env:JOB_COMPLETION_INDEX, Env:JOB_COMPLETIONS }
        Complete-MergedModel $out | Should -HaveCount 7
    }

    It 'has no more parts than shards' {
        { Save-Part $TestDrive/many 1/8 } | Should -Throw '*at most 7 can be used*'
    }

    It 'needs a place for its records where its shards are sent to the Hub' {
        { Merge-LoraModel $base $adapter | Save-MergedModel -Part 1/2 -PushToHub org/name -ErrorAction Stop } |
            Should -Throw '*place for their records*'
        "$($Error[0])" | Should -BeLike '*Give -Destination*'
    }

    It 'is no adapter' {
        { Merge-LoraModel $base $adapter | Save-MergedModel $TestDrive/lora -Method lora -Part 1/2 -ErrorAction Stop } |
            Should -Throw '*-Part would have no effect*'
    }
}

Describe 'The plan of parts' {
    It 'adds up to that of the merge' {
        $whole = Get-MergeMemoryPlan $base $adapter -MaxShardSize 3kB
        $parts = Get-MergeMemoryPlan $base $adapter -MaxShardSize 3kB -PartCount 3
        $parts.Part | Should -Be '1/3', '2/3', '3/3'
        $parts[1] | Out-String -Width 80 | Should -Match 'part 2/3'
        ($parts | Measure-Object OutputBytes -Sum).Sum | Should -Be $whole.OutputBytes
        ($parts | Measure-Object Shards -Sum).Sum | Should -Be 7
        $parts[0].WallSeconds | Should -BeGreaterThan ($parts.EstimatedSeconds | Measure-Object -Maximum).Maximum
        $one = Get-MergeMemoryPlan $base $adapter -MaxShardSize 3kB -Part 2/3
        $one.OutputBytes | Should -Be $parts[1].OutputBytes
        $whole.Part | Should -BeNullOrEmpty
    }

    It 'refuses what cannot be' {
        { Get-MergeMemoryPlan $base $adapter -PartCount 2 -ErrorAction Stop } | Should -Throw '*at most 1 can be used*'
        { Get-MergeMemoryPlan $base $adapter -PartCount 2 -Part 1/2 -ErrorAction Stop } | Should -Throw '*one of them.'
        { Get-MergeMemoryPlan $base $adapter -Method lora -PartCount 1 -ErrorAction Stop } | Should -Throw '*there are no parts*'
    }
}
