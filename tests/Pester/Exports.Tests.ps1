BeforeAll {
    . "$PSScriptRoot/Session.ps1"

    $fixtures = Join-Path $PSScriptRoot '../Fixtures/exports' | Resolve-Path
    $base = Join-Path $fixtures 'bases/llama'
    $adapter = Join-Path $fixtures 'adapters/llama'

    function Get-Scheme([string] $Folder) {
        $groups = (Read-Json "$Folder/config.json").quantization_config.config_groups
        ($groups.PSObject.Properties).Name
    }
}

Describe 'Methods for vLLM' {
    It '<method> writes <scheme>, and its test passes' -ForEach @(
        @{ method = 'w8a8-FP8'; scheme = 'FP8_DYNAMIC' }
        @{ method = 'Block-FP8'; scheme = 'FP8_BLOCK' }
        @{ method = 'w8a8'; scheme = 'W8A8' }
        @{ method = 'int8_weight'; scheme = 'W8A16' }
        @{ method = 'INT4'; scheme = 'W4A16' }
        @{ method = 'w4a16-asym'; scheme = 'W4A16_ASYM' }
        @{ method = 'MXFP8'; scheme = 'MXFP8' }
        @{ method = 'mxfp4'; scheme = 'MXFP4' }
        @{ method = 'mxfp4-a16'; scheme = 'MXFP4A16' }
        @{ method = 'nvfp4a16'; scheme = 'NVFP4A16' }
    ) {
        $out = Join-Path $TestDrive $method
        $tensors = (Merge-LoraModel $base $adapter |
            Save-MergedModel $out -Method $method -WarningVariable warnings -WarningAction SilentlyContinue).Tensors
        "$warnings" | Should -BeLike "Quantizing to $scheme loses accuracy*_proj*"
        Get-Scheme $out | Should -Be $scheme
        ($tensors | Where-Object RelativeError).Count | Should -Be 7
        ($tensors | Where-Object DeltaSurvival).Count | Should -Be 7
        Test-MergedModel $out -Base $base -Adapter $adapter -Full -Quiet | Should -BeTrue
    }

    It 'quantizes a base alone, with groups of a size and without some modules' {
        $out = Join-Path $TestDrive 'alone'
        $null = Merge-LoraModel $base |
            Save-MergedModel $out -Method w4a16 -GroupSize 32 -Asymmetric -Exclude *.o_proj -WarningAction SilentlyContinue
        (Get-ModelTensor $out | Where-Object Format -EQ 'INT4').Count | Should -Be 6
        (Read-Json "$out/config.json").quantization_config.ignore | Should -Contain 'model.layers.0.self_attn.o_proj'
        Merge-LoraModel $base | Test-MergedModel $out -Full -Quiet | Should -BeTrue
    }

    It 'plans the pass that finds global scales' {
        (Get-MergeMemoryPlan $base $adapter -Method nvfp4a16).Stages.Stage |
            Should -Be 'Plan', 'Adapter', 'Survey', 'Merge', 'Copy', 'Process', 'Total'
        (Get-MergeMemoryPlan $base $adapter -Method w4a16).Stages.Stage | Should -Not -Contain 'Survey'
    }

    It 'names what cannot be cut' {
        $ragged = Join-Path $fixtures 'bases/llama-ragged'
        $null = Merge-LoraModel $ragged |
            Save-MergedModel (Join-Path $TestDrive 'ragged') -Method w4a16 -WarningVariable warnings -WarningAction SilentlyContinue
        "$warnings" | Should -BeLike '*no whole groups of 128*down_proj*'
    }

    It 'refuses <method> with the next step' -ForEach @(
        @{ method = 'nvfp4'; says = '*calibration*nvfp4a16*' }
        @{ method = 'FP8-static'; says = '*calibration*fp8,*' }
        @{ method = 'w4a8'; says = '*calibration*w4a16*' }
        @{ method = 'w4afp8'; says = '*calibration*w4a16*' }
        @{ method = 'torchao_int8'; says = '*merged_16bit*torchao*' }
        @{ method = 'portable_fp8'; says = '*merged_16bit*torchao*' }
        @{ method = 'q4_k_m'; says = '*llama.cpp*convert_hf_to_gguf.py*' }
        @{ method = 'gguf'; says = '*llama.cpp*' }
    ) {
        { Merge-LoraModel $base | Save-MergedModel (Join-Path $TestDrive 'no') -Method $method } |
            Should -Throw $says -ErrorId 'InvalidOption,*'
    }

    It 'says which group size a small model can have' {
        $no = Join-Path $TestDrive 'no'
        foreach ($says in @{ llama64 = '*Use -GroupSize 16,*'; 'llama-bf16' = '*merged_16bit*' }.GetEnumerator()) {
            $small = Join-Path $PSScriptRoot ../Fixtures/bases $says.Key
            $failure = { Merge-LoraModel $small | Save-MergedModel $no -Method w4a16 } | Should -Throw -ErrorId 'InvalidOption,*' -PassThru
            "$failure" | Should -BeLike $says.Value
        }
    }

    It 'refuses options that a method does not have' {
        $save = { param($options) Merge-LoraModel $base | Save-MergedModel (Join-Path $TestDrive 'no') @options }
        { & $save @{ Method = 'int8'; GroupSize = 64 } } | Should -Throw '*GroupSize*' -ErrorId 'InvalidOption,*'
        { & $save @{ Method = 'fp8'; Asymmetric = $true } } | Should -Throw '*Asymmetric*' -ErrorId 'InvalidOption,*'
        { & $save @{ GroupSize = 64 } } | Should -Throw '*GroupSize*' -ErrorId 'InvalidOption,*'
        { & $save @{ Method = 'w4a16'; GroupSize = 20 } } | Should -Throw '*20 columns*' -ErrorId 'InvalidOption,*'
        { & $save @{ Method = 'fp8'; DType = 'float32' } } | Should -Throw '*float32*' -ErrorId 'InvalidOption,*'
        Join-Path $TestDrive 'no' | Should -Not -Exist
    }
}
