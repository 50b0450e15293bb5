BeforeAll {
    . "$PSScriptRoot/Session.ps1"

    $base = Get-Base 'llama-bf16'
    $adapter = Get-Adapter 'lora-all-linear'

    function Get-Quantization([string] $Folder) { (Read-Json "$Folder/config.json").quantization_config }
}

Describe 'FP8' {
    It 'has one scale for a <strategy> as <method> has it' -ForEach @(
        @{ strategy = 'block'; method = 'fp8'; count = 4 }
        @{ strategy = 'channel'; method = 'compressed-tensors'; count = 14 }
    ) {
        $out = Join-Path $TestDrive "fp8-$strategy"
        $tensors = (Merge-LoraModel $base $adapter |
            Save-MergedModel $out -Method merged_fp8 -Strategy $strategy -WarningVariable warnings -WarningAction SilentlyContinue).Tensors
        "$warnings" | Should -BeLike '*FP8 loses accuracy*_proj*'
        ($tensors | Where-Object RelativeError).Count | Should -Be $count
        ($tensors | Where-Object RelativeError -GT 0.05) | Should -BeNullOrEmpty
        (Get-ModelTensor $out | Where-Object Format -EQ 'FP8').Count | Should -Be $count
        (Get-Quantization $out).quant_method | Should -Be $method
    }

    It 'is read again as any base' {
        $fp8, $out = 'fp8', 'fp8-again' | ForEach-Object { Join-Path $TestDrive $_ }
        $null = Merge-LoraModel $base $adapter | Save-MergedModel $fp8 -Method merged_fp8 -WarningAction SilentlyContinue
        $null = Merge-LoraModel $fp8 | Save-MergedModel $out
        Get-ModelTensor $out | Where-Object Format -NE 'BF16' | Should -BeNullOrEmpty
    }

    It 'is refused where nothing would be FP8' {
        $out = Join-Path $TestDrive 'nothing'
        { Merge-LoraModel (Get-Base 'q-mxfp4-gptoss') | Save-MergedModel $out -Method merged_fp8 } |
            Should -Throw 'None of the * tensors would be FP8*' -ErrorId 'InvalidOption,*'
        $out | Should -Not -Exist
    }

    It 'takes -Strategy, and nothing else does' {
        { Merge-LoraModel $base | Save-MergedModel (Join-Path $TestDrive 'no') -Strategy block } |
            Should -Throw '*merged_16bit*' -ErrorId 'InvalidOption,*'
        { Merge-LoraModel $base | Save-MergedModel (Join-Path $TestDrive 'no') -Method merged_fp8 -Strategy tensor } |
            Should -Throw '*block*channel*'
    }
}

Describe 'The format that the base has' {
    It 'is kept: <_>' -ForEach 'q-nf4', 'q-int8', 'q-fp8-ragged', 'q-fp8-tensor', 'q-int4-asym', 'q-nvfp4', 'q-gptq', 'q-awq' {
        $out = Join-Path $TestDrive "kept-$_"
        $tensors = (Merge-LoraModel (Get-Base $_) (Get-Adapter $_) |
            Save-MergedModel $out -Method merged -WarningVariable warnings -WarningAction SilentlyContinue).Tensors
        "$warnings" | Should -BeLike '*again*loses accuracy*'
        (Get-ModelTensor $out | ForEach-Object { "$($_.Name) $($_.Format) $($_.Shape)" }) |
            Should -Be (Get-ModelTensor (Get-Base $_) | ForEach-Object { "$($_.Name) $($_.Format) $($_.Shape)" })
        Get-Quantization $out | ConvertTo-Json -Depth 9 | Should -Be (Get-Quantization (Get-Base $_) | ConvertTo-Json -Depth 9)
        $tensors | Where-Object Action -EQ 'Decode' | Should -BeNullOrEmpty
        ($tensors | Where-Object RelativeError).Count |
            Should -Be ($tensors | Where-Object Action -EQ 'Merge' | Where-Object DType -NE 'BF16' | Where-Object DType -NE 'F16').Count
    }

    It 'is 16 bits for a 16-bit base, without a warning' {
        $out = Join-Path $TestDrive 'plain'
        $tensors = (Merge-LoraModel $base $adapter | Save-MergedModel $out -Method merged -WarningVariable warnings).Tensors
        $warnings | Should -BeNullOrEmpty
        $tensors | Where-Object DType -NE 'BF16' | Should -BeNullOrEmpty
    }

    It 'leaves nothing for -DType to do' {
        { Merge-LoraModel $base | Save-MergedModel (Join-Path $TestDrive 'no') -Method merged -DType float16 } |
            Should -Throw '*no effect*' -ErrorId 'InvalidOption,*'
        { Merge-LoraModel $base | Save-MergedModel (Join-Path $TestDrive 'no') -Method merged_4bit -DType float32 } |
            Should -Throw '*16 bits*' -ErrorId 'InvalidOption,*'
    }

    It 'can be asked to be MXFP4' {
        $out = Join-Path $TestDrive 'mxfp4'
        $tensors = (Merge-LoraModel (Get-Base 'q-mxfp4-gptoss') (Get-Adapter 'q-mxfp4-fused') |
            Save-MergedModel $out -Method merged_mxfp4 -WarningAction SilentlyContinue).Tensors
        ($tensors | Where-Object RelativeError).Count | Should -Be 2
        (Get-ModelTensor $out | Where-Object Format -EQ 'MXFP4').Count | Should -Be 2

        $failure = { Merge-LoraModel $base | Save-MergedModel (Join-Path $TestDrive 'no') -Method merged_mxfp4 } |
            Should -Throw '*not a model in MXFP4*BF16*' -ErrorId 'InvalidOption,*' -PassThru
        "$failure" | Should -Match 'merged_fp8'
        Join-Path $TestDrive 'no' | Should -Not -Exist
    }
}

Describe 'What a format needs' {
    It 'is known before it is written: <_>' -ForEach 'merged', 'merged_fp8', 'merged_4bit' {
        $plan = Get-MergeMemoryPlan (Get-Base 'q-fp8-ragged') (Get-Adapter 'q-fp8-ragged') -Method $_
        $out = Join-Path $TestDrive "known-$_"
        Merge-LoraModel (Get-Base 'q-fp8-ragged') (Get-Adapter 'q-fp8-ragged') | Save-MergedModel $out -Method $_ -WhatIf |
            Should -BeNullOrEmpty
        $out | Should -Not -Exist
        $shards = Merge-LoraModel (Get-Base 'q-fp8-ragged') (Get-Adapter 'q-fp8-ragged') |
            Save-MergedModel $out -Method $_ -WarningAction SilentlyContinue
        $plan.OutputBytes - $shards.Bytes | Should -BeGreaterOrEqual 0
        $plan.OutputBytes - $shards.Bytes | Should -BeLessThan 2000
    }
}
