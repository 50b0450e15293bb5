BeforeAll {
    . "$PSScriptRoot/Session.ps1"

    $base = Get-Base 'llama-bf16'
    $adapter = Get-Adapter 'lora-all-linear'
    $manifest = "$((Get-Module UnslothMerge).ModuleBase)/UnslothMerge.psd1"
    $shard = Merge-LoraModel $base $adapter | Save-MergedModel "$TestDrive/out"
}

Describe 'A shape' {
    It 'compares with what it is written as: <_>' -ForEach '43x20', "43$([char] 0xD7)20", '43 x 20', '[43, 20]' {
        @(Get-ModelTensor $base | Where-Object Shape -EQ $_).Name | Should -Be 'lm_head.weight', 'model.embed_tokens.weight'
        (Get-ModelTensor $base)[0].Shape -lt '44x20' | Should -BeTrue
        (Get-ModelTensor $base)[0].Shape -eq 'wide' | Should -BeFalse
    }

    It 'is numbers in JSON, and a text that can be parsed in CSV' {
        $read = $shard.Tensors | ConvertTo-Json -WarningVariable cut | ConvertFrom-Json
        $cut | Should -BeNullOrEmpty
        $read[0].Dimensions | Should -Be 43, 20
        ($shard.Tensors | ConvertTo-Csv | ConvertFrom-Csv)[0].Shape | Should -BeExactly '43x20'
    }
}

Describe 'A duration' {
    It 'is a number of seconds' {
        $shard.Time | Should -Be $shard.Seconds
        ($shard | ConvertTo-Json -Depth 1 -WarningAction Ignore | ConvertFrom-Json).Seconds | Should -Be $shard.Seconds
        ($shard | Measure-Object Seconds -Sum).Sum | Should -Be $shard.Seconds
        foreach ($type in (Get-Module UnslothMerge).ExportedCmdlets.Values.OutputType.Type) {
            $type.GetProperties().PropertyType | Should -Not -Contain ([timespan]) -Because 'JSON would have its eleven properties'
            $type.GetProperties().PropertyType | Should -Not -Contain ([Nullable[timespan]])
        }
    }
}

Describe 'An object that was serialized' {
    BeforeAll {
        $job = Start-Job {
            Import-Module $using:manifest
            Get-LoraAdapter $using:adapter -Base $using:base
            Get-MergeMemoryPlan $using:base $using:adapter
            Merge-LoraModel $using:base $using:adapter | Save-MergedModel "$using:TestDrive/job"
        }
        $received = $job | Receive-Job -Wait -AutoRemoveJob
        Get-LoraAdapter $adapter -Base $base | Export-Clixml "$TestDrive/adapter.xml"
        $shard | Export-Clixml "$TestDrive/shard.xml"
        $copies = @{ job = $received; file = (Import-Clixml "$TestDrive/adapter.xml"), $null, (Import-Clixml "$TestDrive/shard.xml") }
    }

    It 'has its targets: <_>' -ForEach 'job', 'file' {
        $target = $copies[$_][0].Targets | Where-Object Module -EQ 'model.layers.0.mlp.up_proj'
        $target.Tensor | Should -Be 'model.layers.0.mlp.up_proj.weight'
        $target.Rank | Should -Be 5
        $target.Scaling | Should -Be 3.2
        $target.Inputs | Should -HaveCount 2
        $copies[$_][0].Base | Should -Be 'org/llama-bf16'
    }

    It 'has its stages' {
        $copies.job[1].Stages.Stage | Should -Contain 'Total'
        $copies.job[1].Stages[-1].Written | Should -Be $shard.Bytes
    }

    It 'has its tensors and their shapes: <_>' -ForEach 'job', 'file' {
        $copy = $copies[$_][2]
        $copy.Tensors | Should -HaveCount 21
        $copy.Tensors[0].Dimensions | Should -Be 43, 20
        "$($copy.Tensors[0].Shape)" | Should -Be '43x20'
        $copy.Size | Should -Be $shard.Bytes
        ($copy.Tensors | Where-Object Change).Count | Should -Be 14
        $copy | Out-String -Width 80 | Should -Match 'model\.safetensors\s+21\s+14\s+17\.7 kB'
    }
}

Describe 'Beside other objects' {
    It 'the properties that matter are shown' {
        $objects = (Get-LoraAdapter $adapter), (Get-MergeMemoryPlan $base $adapter), (Merge-LoraModel $base $adapter)[0]
        $shown = $objects | Out-String -Width 80
        $shown | Should -Match 'Fits\s+: True'
        $shown | Should -Not -Match 'LimitBytes|Component'
    }
}

Describe 'The targets of an adapter' {
    It 'say without a base what they say with one: <_>' -ForEach @(
        'lora-all-linear', 'rslora', 'dora-linear', 'save-lm-head', 'loha', 'gemma2'
        'peft-loha-conv1d-2', 'peft-lora-conv2d-2-with-dora', 'dora-embedding'
    ) {
        $case = Join-Path $Fixtures "cases/$_"
        $known = Read-Json "$case/case.json"
        $with = (Get-LoraAdapter "$case/adapter" -Base (Join-Path $Fixtures $known.base)).Targets
        $without = @{}
        foreach ($target in (Get-LoraAdapter "$case/adapter").Targets) { $without[$target.Module] = $target }
        $with | Should -Not -BeNullOrEmpty
        foreach ($target in $with | Where-Object { $_.Rank -and $_.Kind -ne 'SavedModule' }) {
            $without[$target.Module].Rank | Should -Be $target.Rank -Because $target.Module
            $without[$target.Module].Scaling | Should -Be $target.Scaling -Because $target.Module
        }
    }

    It 'are a table that names the tensors and counts what does not change' {
        (Get-LoraAdapter $adapter).Targets | Out-String -Width 80 | Should -Match '14 modules of adapter\..*-Base'
        (Get-LoraAdapter $adapter -Base $base).Targets | Out-String -Width 80 |
            Should -Match '(?s)14 modules of adapter change 14 of 21 tensors:.*layers\.0\.mlp\.down_proj\.weight\s+LoRA\s+5\s+3\.2 Merged'
        $copy = Get-LoraAdapter (Get-Adapter 'save-lm-head') -Base $base
        $copy.Changed | Should -Be @($copy.Targets.Tensor | Sort-Object -Unique).Count
        $copy.Unchanged | Should -Be 0
    }
}
