BeforeAll {
    . "$PSScriptRoot/Session.ps1"

    $base = Get-Base 'llama-bf16'
    $adapter = Get-Adapter 'lora-all-linear'
    }

Describe 'Get-ModelTensor' {
    It 'lists the tensors of a model' {
        $tensors = @(Get-ModelTensor $base)
        $tensors | Should -HaveCount 21
        $head = $tensors | Where-Object Name -eq 'lm_head.weight'
        "$($head.Shape)" | Should -Be '43x20'
        $head.DType | Should -Be 'BF16'
        $head.Format | Should -Be 'BF16'
        $head.Bytes | Should -Be 1720
        $head.Parameters | Should -Be 860
        $head.Shard | Should -Be 'model.safetensors'
        $head.Path | Should -Exist
        $null -eq $head.Layer | Should -BeTrue
        ($tensors | Where-Object Layer -eq 1) | Should -HaveCount 9
    }

    It 'shows quantized weights as what they mean' {
        $weight = Get-ModelTensor (Get-Base 'q-nf4') | Where-Object Name -like '*layers.0*down_proj.weight'
        $weight | Should -HaveCount 1
        $weight.Format | Should -Match 'NF4'
        $weight.DType | Should -Be 'BF16'
        $weight.Shape.Rank | Should -Be 2
        $weight.Bytes | Should -BeLessThan (2 * $weight.Parameters)
    }

    It 'takes many models, from the pipeline and by wildcard' {
        @($base, "$base" | Get-ModelTensor) | Should -HaveCount 42
        @(Get-ModelTensor (Get-Base 'llama-bf1?')) | Should -HaveCount 21
        @(Get-ModelTensor (Get-Base 'no-such-*')) | Should -HaveCount 0
    }

    It 'finds tensors by name' {
        (Get-ModelTensor $base -Name *.q_proj.weight).Name |
            Should -Be 'model.layers.0.self_attn.q_proj.weight', 'model.layers.1.self_attn.q_proj.weight'
        @(Get-ModelTensor $base lm_head.weight, MODEL.NORM.*) | Should -HaveCount 2
        @(Get-ModelTensor $base *nothing*) | Should -HaveCount 0

        @(Get-ModelTensor $base lm_head.weight, lm_haed.weight -ErrorAction SilentlyContinue -ErrorVariable failures) | Should -HaveCount 1
        $failures.TargetObject | Should -Be 'lm_haed.weight'
        $failures.FullyQualifiedErrorId | Should -BeLike 'TensorNotFound,*'
        $failures.CategoryInfo.Category | Should -Be 'ObjectNotFound'
    }

    It 'goes on after a bad one' {
        $tensors = @($base, '/nowhere', $base | Get-ModelTensor -ErrorAction SilentlyContinue -ErrorVariable failures)
        $tensors | Should -HaveCount 42
        $failures | Should -HaveCount 1
        $failures[0].FullyQualifiedErrorId | Should -Be 'PathNotFound,UnslothMerge.PowerShell.Commands.GetModelTensorCommand'
        $failures[0].TargetObject | Should -Be '/nowhere'
    }
}

Describe 'Get-LoraAdapter' {
    It 'tells what an adapter is' {
        $lora = Get-LoraAdapter $adapter
        $lora.Name | Should -Be 'adapter'
        "$lora" | Should -Be $adapter
        $lora.Kind | Should -Be 'LORA'
        $lora.Rank | Should -BeGreaterThan 0
        $lora.Scaling | Should -Be ($lora.Alpha / $lora.Rank)
        $lora.Modules | Should -Be 14
        $lora.Tensors | Should -Be 28
        $lora.Bytes | Should -Be (Get-Item "$adapter/adapter_model.safetensors").Length
        $lora.Targets | Should -HaveCount 14
        $lora.Targets[0].Inputs | Should -Be @('A', 'B' | ForEach-Object { "base_model.model.model.layers.0.mlp.down_proj.lora_$_.weight" })
        $null -eq $lora.Targets[0].Tensor | Should -BeTrue
    }

    It 'divides by the root of the rank with rsLoRA' {
        $lora = Get-LoraAdapter (Get-Adapter 'rslora')
        $lora.Scaling | Should -Be ($lora.Alpha / [Math]::Sqrt($lora.Rank))
    }

    It 'tells where each module lands in a base' {
        $targets = (Get-LoraAdapter $adapter -Base $base).Targets
        $targets | Should -HaveCount 14
        $targets.Outcome | Where-Object { $_ -ne 'Merged' } | Should -BeNullOrEmpty
        $target = $targets | Where-Object Module -eq 'model.layers.0.mlp.up_proj'
        $target.Tensor | Should -Be 'model.layers.0.mlp.up_proj.weight'
        $target.Kind | Should -Be 'LoRA'
        $target.Rank | Should -BeGreaterThan 0
        $target.Scaling | Should -BeGreaterThan 0
    }

    It 'tells what replaces a tensor' {
        $targets = (Get-LoraAdapter (Get-Adapter 'save-lm-head') -Base $base).Targets
        ($targets | Where-Object Outcome -eq 'Replaced').Tensor | Should -Be 'lm_head.weight'
    }

    It 'says why an adapter does not fit the base' {
        $failure = { Get-LoraAdapter (Get-Adapter 'refuse-shape') -Base $base -ErrorAction Stop } |
            Should -Throw -ErrorId 'AdapterDoesNotFit,UnslothMerge.PowerShell.Commands.GetLoraAdapterCommand' -PassThru
        $failure.Exception.Details | Should -Not -BeNullOrEmpty
    }
}

Describe 'Get-MergeMemoryPlan' {
    It 'tells what a merge needs' {
        $plan = Get-MergeMemoryPlan $base $adapter
        $plan.Base | Should -Be $base
        $plan.Adapter | Should -Be $adapter
        $plan.Weight | Should -Be 1
        $plan.Architecture | Should -Be 'LlamaForCausalLM'
        $plan.Parameters | Should -Be 7820
        $plan.Shards | Should -Be 1
        $plan.Stages.Stage | Should -Be 'Plan', 'Adapter', 'Merge', 'Copy', 'Process', 'Total'
        $plan.Fits | Should -BeTrue
        $plan.Missing | Should -BeNullOrEmpty
        $plan.PeakHostBytes | Should -BeGreaterThan 0
        $plan.PeakDeviceBytes | Should -Be 0
        $plan.PieceBytes | Should -BeGreaterThan 0
        $plan.TileRows | Should -BeGreaterThan 0
        $plan.EstimatedSeconds | Should -BeGreaterThan 0
    }

    It 'refuses a temporary location that is none' {
        { Get-MergeMemoryPlan $base $adapter -TemporaryLocation "$TestDrive/no such place" } |
            Should -Throw '*is not a directory*' -ErrorId 'PathNotFound,*'
        { Merge-LoraModel $base $adapter | Save-MergedModel "$TestDrive/out" -TemporaryLocation "$TestDrive/no such place" } |
            Should -Throw '*is not a directory*' -ErrorId 'PathNotFound,*'
    }

    It 'never writes to the base, not even to measure the disk' {
        (Get-MergeMemoryPlan $base $adapter -Destination "$base/below/it").EstimatedSeconds | Should -BeNullOrEmpty
    }

    It 'tells the size of the output to the byte' {
        foreach ($options in @{}, @{ DType = 'F32' }, @{ MaxShardSize = '5kB' }) {
            $out = Join-Path $TestDrive 'exact'
            $written = 0
            foreach ($shard in Merge-LoraModel $base $adapter | Save-MergedModel $out -Force @options) { $written += $shard.Bytes }
            (Get-MergeMemoryPlan $base $adapter @options).OutputBytes | Should -Be $written
        }
    }

    It 'plans the tensors of a merge, as many as came' {
        (Merge-LoraModel $base $adapter | Get-MergeMemoryPlan).OutputBytes | Should -Be (Get-MergeMemoryPlan $base $adapter).OutputBytes
        $first = Merge-LoraModel $base $adapter, $adapter -CombinationType ties -Density 0.5 | Where-Object Layer -eq 0
        $shard = $first | Save-MergedModel "$TestDrive/first" -AllowPartial
        $plan = $first | Get-MergeMemoryPlan
        $plan.OutputBytes | Should -Be $shard.Bytes
        $plan.Adapter | Should -Be $adapter, $adapter
    }

    It 'takes what shapes a quantized output' {
        $four = @{ Method = 'merged_4bit'; BlockSize = 128; DoubleQuantization = $false }
        foreach ($options in $four, @{ Method = 'merged_fp8'; Strategy = 'channel' }) {
            $shard = Merge-LoraModel $base $adapter |
                Save-MergedModel "$TestDrive/quantized" -Force @options -WarningAction SilentlyContinue
            (Get-MergeMemoryPlan $base $adapter @options).OutputBytes | Should -Be $shard.Bytes
        }
        { Get-MergeMemoryPlan $base $adapter -Strategy channel } | Should -Throw '*Strategy*' -ErrorId 'InvalidOption,*'
    }

    It 'says what is missing' {
        $plan = Get-MergeMemoryPlan $base $adapter -MaximumMemoryUsage 1MB
        $plan.Fits | Should -BeFalse
        $plan.Missing | Should -Match 'more memory'
        $plan.LimitBytes | Should -Be 1000000
        $plan.Advice | Should -Match '^raise -MaximumMemoryUsage to (.+)$'
        $enough = $plan.Advice -replace '^.* to '
        (Get-MergeMemoryPlan $base $adapter -MaximumMemoryUsage $enough).Fits | Should -BeTrue
    }
}
