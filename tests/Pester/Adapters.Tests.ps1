BeforeAll {
    . "$PSScriptRoot/Session.ps1"
}

Describe 'A tied pair of which one side was trained' {
    It 'is written as two tensors, and says so' {
        $out = Join-Path $TestDrive 'untied'
        $tensors = Merge-LoraModel (Get-Base 'llama-tied-bf16') (Get-Adapter 'tied-lora-embed') -WarningVariable warnings 3> $null
        $null = $tensors | Save-MergedModel $out
        "$warnings" | Should -BeLike '*tie_word_embeddings*-KeepTied*'
        (Get-ModelTensor $out | Where-Object Name -EQ 'lm_head.weight') | Should -HaveCount 1
        (Read-Json "$out/config.json").tie_word_embeddings | Should -BeFalse
    }

    It 'stays tied with -KeepTied' {
        $out = Join-Path $TestDrive 'tied'
        $null = Merge-LoraModel (Get-Base 'llama-tied-bf16') (Get-Adapter 'tied-lora-embed') -KeepTied -WarningAction SilentlyContinue |
            Save-MergedModel $out
        (Get-ModelTensor $out | Where-Object Name -EQ 'lm_head.weight') | Should -BeNullOrEmpty
        (Read-Json "$out/config.json").tie_word_embeddings | Should -BeTrue
    }

    It 'cannot stay tied when both sides changed differently' {
        { Merge-LoraModel (Get-Base 'llama-tied-bf16') (Get-Adapter 'tied-lora-both') -KeepTied } |
            Should -Throw '*different changes*' -ErrorId 'InvalidOption,*'
    }
}

Describe 'Several adapters' {
    BeforeAll {
        $two = (Get-Adapter 'weighted-two' 'adapter0'), (Get-Adapter 'weighted-two' 'adapter1')
        $base = Get-Base 'llama-bf16'
    }

    It 'are summed with a weight for each' {
        { Merge-LoraModel $base $two -Weight 1 } | Should -Throw 'There are 2 adapters, but 1 weight.' -ErrorId 'InvalidOption,*'
        (Merge-LoraModel $base $two -Weight 1, -0.5 | Where-Object { $_.Adapters.Count -eq 2 }).Count | Should -BeGreaterThan 0
    }

    It 'are combined by <_>, the same way every time' -ForEach 'ties', 'dare_linear', 'dare_ties', 'magnitude_prune' {
        $first, $second = 'a', 'b' | ForEach-Object { Join-Path $TestDrive "combined-$_" }
        foreach ($out in $first, $second) {
            $null = Merge-LoraModel $base $two -CombinationType $_ -Density 0.5 -Seed 3 | Save-MergedModel $out -Force
        }
        (Get-FileHash "$first/model.safetensors").Hash | Should -Be (Get-FileHash "$second/model.safetensors").Hash
    }

    It 'need a density to be thinned out' {
        { Merge-LoraModel $base $two -CombinationType ties } | Should -Throw '*density*' -ErrorId 'InvalidOption,*'
        { Merge-LoraModel $base $two -Density 0.5 } | Should -Throw '*density*' -ErrorId 'InvalidOption,*'
    }

    It 'cannot be summed where one is no sum' {
        { Merge-LoraModel $base (Get-Adapter 'oft'), $two[0] } | Should -Throw '*only sums*' -ErrorId 'AdapterDoesNotFit,*'
    }
}

Describe 'What only the user knows' {
    It 'decides the orientation of square experts' {
        $base, $adapter = (Get-Base 'moe-qwen3-square'), (Get-Adapter 'moe-square-unknown')
        { Merge-LoraModel $base $adapter } | Should -Throw '*orientation*-MoeOrientation*' -ErrorId 'AdapterDoesNotFit,*'
        (Merge-LoraModel $base $adapter -MoeOrientation InLast | Where-Object Action -EQ 'Merge').Count | Should -BeGreaterThan 0
    }

    It 'says that a base is the residual one' {
        $base, $adapter = (Get-Base 'llama-fp32'), (Get-Adapter 'refuse-pissa')
        { Merge-LoraModel $base $adapter } | Should -Throw '*PISSA*residual*' -ErrorId 'UnsupportedAdapter,*'
        (Merge-LoraModel $base $adapter -BaseIsResidual | Where-Object Action -EQ 'Merge').Count | Should -BeGreaterThan 0
    }
}

Describe 'Four bits' {
    It 'are written as bitsandbytes writes them, with a warning that tells the error' {
        $out = Join-Path $TestDrive 'four'
        $shards = Merge-LoraModel (Get-Base 'out-llama') (Get-Adapter 'out-4bit') |
            Save-MergedModel $out -Method merged_4bit_forced -WarningVariable warnings -WarningAction SilentlyContinue
        "$warnings" | Should -BeLike '*loses accuracy*gate_proj*'
        ($shards.Tensors | Where-Object RelativeError).Count | Should -Be 7
        (Get-ModelTensor $out | Where-Object Format -EQ 'NF4').Count | Should -Be 7
        (Read-Json "$out/config.json").quantization_config.bnb_4bit_quant_type | Should -Be 'nf4'
    }

    It 'may be spelled <_>' -ForEach 'forced_merged_4bit', 'Merged 4bit' {
        (Get-MergeMemoryPlan (Get-Base 'out-llama') -Method $_).OutputBytes |
            Should -Be (Get-MergeMemoryPlan (Get-Base 'out-llama') -Method merged_4bit).OutputBytes
    }

    It 'take their own parameters' {
        $out = Join-Path $TestDrive 'fp4'
        $null = Merge-LoraModel (Get-Base 'out-llama') |
            Save-MergedModel $out -Method merged_4bit -QuantType fp4 -BlockSize 128 -DoubleQuantization:$false 3> $null
        (Get-ModelTensor $out | Where-Object Format -EQ 'FP4').Count | Should -Be 7
        (Read-Json "$out/config.json").quantization_config.bnb_4bit_use_double_quant | Should -BeFalse
    }

    It 'do not take parameters that would have no effect' {
        { Merge-LoraModel (Get-Base 'out-llama') | Save-MergedModel (Join-Path $TestDrive 'no') -BlockSize 64 } |
            Should -Throw '*merged_16bit*' -ErrorId 'InvalidOption,*'
        { Merge-LoraModel (Get-Base 'out-llama') | Save-MergedModel (Join-Path $TestDrive 'no') -Method merged_4bit -BlockSize 100 } |
            Should -Throw '*100*' -ErrorId 'InvalidOption,*'
        { Merge-LoraModel (Get-Base 'out-lora-base') (Get-Adapter 'out-lora') |
            Save-MergedModel (Join-Path $TestDrive 'no') -Method lora -DType float16 } | Should -Throw '*no effect*'
    }
}
