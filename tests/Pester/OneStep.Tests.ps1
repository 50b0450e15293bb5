BeforeAll {
    . "$PSScriptRoot/Session.ps1"

    $base = Get-Base 'llama-bf16'
    $adapter = Get-Adapter 'lora-all-linear'
    $style = Copy-Folder $adapter 'style'
}

Describe 'Merge-LoraModel with a destination' {
    It 'saves what the pipeline saves, and emits what Save-MergedModel emits' {
        $shard = Merge-LoraModel $base $adapter "$TestDrive/one"
        $other = Merge-LoraModel $base $adapter | Save-MergedModel "$TestDrive/two"
        $shard.Changed | Should -Be 14
        (Get-FileHash $shard.Path).Hash | Should -Be (Get-FileHash $other.Path).Hash
        { Merge-LoraModel $base $adapter "$TestDrive/one" } |
            Should -Throw '*exists already*' -ErrorId 'DestinationExists,*MergeLoraModelCommand'
        @(Merge-LoraModel $base $adapter "$TestDrive/one" -Force -MaxShardSize 5kB).Count | Should -BeGreaterThan 1
        Merge-LoraModel $base $adapter "$TestDrive/three" -WhatIf
        "$TestDrive/three" | Should -Not -Exist
    }

    It 'saves a chain' {
        $chain = Merge-LoraModel $base $adapter | Merge-LoraModel -Adapter $style -Weight -1 -Destination "$TestDrive/chain"
        $chain.Changed | Should -Be 14
    }
}

Describe 'A merge that is not saved' {
    It 'says so below its table' {
        $tensors = Merge-LoraModel $base $adapter
        $tensors | Out-String -Width 80 | Should -Match '(?s)model\.norm\.weight.*\n\s*\nNothing is saved yet\.'
        $tensors = Merge-LoraModel $base
        $tensors | Out-String -Width 80 | Should -Match 'Plain conversion, not saved\.'
    }

    It 'does not ask for what cannot be typed' {
        { Merge-LoraModel } | Should -Throw '*nothing to merge*' -ErrorId 'InvalidArgument,*'
        { Save-MergedModel } | Should -Throw '*no tensors to save*' -ErrorId 'InvalidArgument,*'
        { Merge-LoraModel $base $adapter | Save-MergedModel } | Should -Throw '*no place*' -ErrorId 'InvalidArgument,*'
        { Export-MergeRecipe } | Should -Throw '*no file given*' -ErrorId 'InvalidArgument,*'
        { Get-MergeMemoryPlan } | Should -Throw '*no merge to plan*' -ErrorId 'InvalidArgument,*'
        { Save-MergedModel "$TestDrive/none" } | Should -Throw '*no tensors*' -ErrorId 'InvalidArgument,*'
        { Merge-LoraModel $base $adapter -Force } | Should -Throw '*no effect*' -ErrorId 'InvalidArgument,*'
    }
}

Describe 'Adapters from the pipeline' {
    It 'form one merge' {
        $tensors = @(Get-Item $adapter, $style | Merge-LoraModel $base -Weight 1, 0.5)
        $tensors | Should -HaveCount 21
        $tensors[3].Adapters | Should -Be 'adapter', 'style'
        @(Get-Item $adapter, $style | Get-MergeMemoryPlan $base).Adapter | Should -Be $adapter, $style
        { @() | Merge-LoraModel $base } | Should -Throw '*No adapter came*' -ErrorId 'InvalidArgument,*'
    }
}

Describe 'Arrays and positions' {
    It 'do what the pipeline does' {
        $tensors = Merge-LoraModel $base $adapter
        (Save-MergedModel "$TestDrive/array" -InputObject $tensors).Changed | Should -Be 14
        (Get-MergeMemoryPlan -InputObject $tensors).OutputBytes | Should -Be 17736
        @(Merge-LoraModel -InputObject $tensors -Adapter $style) | Should -HaveCount 21
        Test-MergedModel "$TestDrive/array" $base $adapter -Quiet | Should -BeTrue
        $models = "$TestDrive/array", "$TestDrive/array2"
        $null = Save-MergedModel $models[1] -InputObject $tensors
        (Test-MergedModel $models $base $adapter).Path | Sort-Object -Unique | Should -Be ($models | ForEach-Object { Convert-Path $_ })
    }
}

Describe 'A memory plan' {
    It 'carries the output on into a save, or refuses another' {
        $plan = Get-MergeMemoryPlan $base $adapter -Method merged_4bit
        $shard = $plan | Merge-LoraModel | Save-MergedModel "$TestDrive/planned" 3> $null
        $shard.Tensors.DType | Should -Contain 'U8'
        $plan.OutputBytes - $shard.Bytes | Should -BeIn (0..1000) -Because 'the texts of 4-bit weights are planned with room'
        $failure = { $plan | Merge-LoraModel | Save-MergedModel "$TestDrive/other" -Method merged_16bit } |
            Should -Throw '*planned with -Method merged_4bit*' -ErrorId 'InvalidOption,*' -PassThru
        $failure.TargetObject | Should -Be 'Method'
        "$TestDrive/other" | Should -Not -Exist
    }

    It 'is of the tensors that it was made of' {
        $plan = Merge-LoraModel $base $adapter | ForEach-Object { if ($_.Layer -eq 0) { $_.Strength = 0 }; $_ } | Get-MergeMemoryPlan
        @($plan | Merge-LoraModel | Where-Object Strength -EQ 0).Count | Should -Be 7
    }

    It 'has stages that add up' {
        $stages = (Get-MergeMemoryPlan $base $adapter).Stages
        foreach ($column in 'Read', 'Written', 'Host', 'Device', 'Disk') {
            ($stages | Where-Object Stage -NE 'Total' | Measure-Object $column -Sum).Sum | Should -Be $stages[-1].$column
        }
    }

    It 'does not fit where nothing can be written' {
        $plan = Get-MergeMemoryPlan $base $adapter -Destination "$base/below"
        $plan.Fits | Should -BeFalse
        $plan.Missing | Should -Match 'a destination that can be written'
        $plan.Advice | Should -Match 'inside the base'
    }
}
