BeforeDiscovery {
    # What a user may pass, the error's id, what it must name, and what the advice must say.
    $mistakes = @(
        @{ what = 'base and adapter the other way round'; base = 'cases/lora-all-linear/adapter'; adapter = 'bases/llama-bf16'; id = 'InvalidModel'; names = 'config.json'; advice = 'This is an adapter' }
        @{ what = 'a model as the adapter'; base = 'bases/llama-bf16'; adapter = 'bases/llama-bf16'; id = 'InvalidAdapter'; names = 'adapter_config.json'; advice = 'adapter_model.safetensors' }
        @{ what = 'a folder above the adapter'; base = 'bases/llama-bf16'; adapter = 'cases/lora-all-linear'; id = 'InvalidAdapter'; names = 'lora-all-linear'; advice = 'below it: adapter' }
        @{ what = 'a base that is not there'; base = 'bases/no-such'; adapter = 'cases/lora-all-linear/adapter'; id = 'InvalidModel'; names = 'no-such'; advice = 'Hugging Face' }
        @{ what = 'an adapter that is not there'; base = 'bases/llama-bf16'; adapter = 'cases/no-such/adapter'; id = 'InvalidAdapter'; names = 'no-such'; advice = 'adapter_config.json' }
        @{ what = 'a file as the base'; base = 'bases/llama-bf16/model.safetensors'; adapter = 'cases/lora-all-linear/adapter'; id = 'InvalidModel'; names = 'is a file'; advice = 'directory' }
        @{ what = 'a file as the adapter'; base = 'bases/llama-bf16'; adapter = 'cases/lora-all-linear/adapter/adapter_model.safetensors'; id = 'InvalidAdapter'; names = 'is a file'; advice = 'directory' }
        @{ what = 'an adapter for another model'; base = 'bases/gpt2-fp32'; adapter = 'cases/lora-all-linear/adapter'; id = 'AdapterDoesNotFit'; names = 'lora_A.weight'; advice = 'base' }
        @{ what = 'a base with fewer layers or other shapes'; base = 'bases/qwen2-bf16'; adapter = 'cases/gemma2/adapter'; id = 'AdapterDoesNotFit'; names = '8 of its 8'; advice = 'base' }
        @{ what = 'a base whose shard is missing'; base = 'bases/llama-missing-shard'; adapter = 'cases/lora-all-linear/adapter'; id = 'InvalidModel'; names = 'model-0000'; advice = 'Download' }
        @{ what = 'a base whose shard is truncated'; base = 'bases/llama-truncated'; adapter = 'cases/lora-all-linear/adapter'; id = 'InvalidSafetensors'; names = 'model-00002-of-00005.safetensors'; advice = 'truncated' }
        @{ what = 'a base in an unknown format'; base = 'bases/q-unknown'; adapter = 'cases/lora-all-linear/adapter'; id = 'UnsupportedFormat'; names = 'q-unknown'; advice = '16-bit original' }
        @{ what = 'an adapter that cannot be merged'; base = 'bases/llama-bf16'; adapter = 'cases/refuse-qalora/adapter'; id = 'UnsupportedAdapter'; names = 'use_qalora'; advice = 'LoRA' }
    )
}

BeforeAll {
    . "$PSScriptRoot/Session.ps1"

    $llama = [IO.Path]::Combine($Fixtures, 'bases', 'llama-bf16')
    $lora = [IO.Path]::Combine($Fixtures, 'cases', 'lora-all-linear', 'adapter')
}

Describe 'Mistakes' {
    It 'is told: <what>' -ForEach $mistakes {
        $failure = { Merge-LoraModel ([IO.Path]::Combine($Fixtures, $base)) ([IO.Path]::Combine($Fixtures, $adapter)) } |
            Should -Throw -ErrorId "$id,UnslothMerge.PowerShell.Commands.MergeLoraModelCommand" -PassThru
        $failure.Exception.Message | Should -Match ([regex]::Escape($names))
        $failure.ErrorDetails.RecommendedAction | Should -Match ([regex]::Escape($advice))
        $failure.ErrorDetails.Message.Contains($failure.ErrorDetails.RecommendedAction) | Should -BeFalse -Because 'PowerShell shows the recommendation by itself'
        $failure.TargetObject | Should -Not -BeNullOrEmpty
        $failure.CategoryInfo.Category | Should -Not -Be 'NotSpecified'
    }

    It 'lists every tensor that found no place' {
        $failure = { Merge-LoraModel ([IO.Path]::Combine($Fixtures, 'bases', 'gpt2-fp32')) $lora } | Should -Throw -ErrorId 'AdapterDoesNotFit,*' -PassThru
        $failure.Exception.Details | Should -HaveCount 28
        $failure.Exception.Message | Should -Match 'and 18 more'
        $failure.ErrorDetails.Message | Should -Match 'Details'
    }

    It 'wants one weight for each adapter' {
        $failure = { Merge-LoraModel $llama $lora -Weight 1, 2 } | Should -Throw '*1 adapters but 2 weights*' -ErrorId 'InvalidOption,*' -PassThru
        $failure.TargetObject | Should -Be 'Weight'
        { Merge-LoraModel $llama -Weight 1 } | Should -Throw -ErrorId 'InvalidOption,*'
        { Merge-LoraModel $llama $lora -Weight ([double]::PositiveInfinity) } | Should -Throw '*finite*' -ErrorId 'InvalidOption,*'
    }

    It 'does not take a variable that is empty for one that was left out' {
        { Merge-LoraModel $llama $lora | Merge-LoraModel } | Should -Throw '*no adapter*' -ErrorId 'InvalidArgument,*'
        { Merge-LoraModel $llama $lora | Merge-LoraModel -Adapter '' } | Should -Throw '*-Adapter*' -ErrorId 'InvalidArgument,*'
        { Merge-LoraModel $llama $lora | Merge-LoraModel -Adapter $null } | Should -Throw -ErrorId 'ParameterArgumentValidationError,*'
        { Merge-LoraModel '' $lora } | Should -Throw -ErrorId 'ParameterArgumentValidationError,*'
        { Merge-LoraModel $null $lora } | Should -Throw -ErrorId 'ParameterArgumentValidationError,*'
        { Merge-LoraModel $llama '' } | Should -Throw '*-Adapter*' -ErrorId 'InvalidArgument,*'
        { Merge-LoraModel $llama $null } | Should -Throw -ErrorId 'ParameterArgumentValidationError,*'
        { Merge-LoraModel $llama @() } | Should -Throw '*-Adapter*' -ErrorId 'InvalidArgument,*'
    }

    It 'knows devices by name, and says of one that is not there what to do' {
        $out = [IO.Path]::Combine($TestDrive, 'device')
        $failure = { Merge-LoraModel $llama $lora | Save-MergedModel $out -Device gpu } | Should -Throw '*gpu*not a device*' -ErrorId 'InvalidOption,*' -PassThru
        $failure.ErrorDetails.RecommendedAction | Should -Match 'cuda:1'
        $failure = { Merge-LoraModel $llama $lora | Save-MergedModel $out -Device cuda:99 } | Should -Throw -ErrorId 'DeviceUnavailable,*' -PassThru
        $failure.ErrorDetails.RecommendedAction | Should -Match '-Device cpu'
        $failure.CategoryInfo.Category | Should -Be 'ResourceUnavailable'
        { Get-MergeMemoryPlan $llama $lora -Device cuda:99 } | Should -Throw -ErrorId 'DeviceUnavailable,*'
        [IO.Directory]::Exists($out) | Should -BeFalse
    }

    It 'sees that the base changed between the merge and the save' {
        $folder = [IO.Directory]::CreateDirectory([IO.Path]::Combine($TestDrive, 'changing')).FullName
        foreach ($file in [IO.Directory]::GetFiles($llama)) { [IO.File]::Copy($file, [IO.Path]::Combine($folder, [IO.Path]::GetFileName($file))) }
        $tensors = Merge-LoraModel $folder $lora
        [IO.File]::SetLastWriteTimeUtc("$folder/model.safetensors", [datetime]::UtcNow.AddMinutes(1))
        $failure = { $tensors | Save-MergedModel "$TestDrive/changed" } | Should -Throw '*model.safetensors*' -ErrorId 'FileChanged,*' -PassThru
        $failure.ErrorDetails.RecommendedAction | Should -Match 'Merge-LoraModel again'
        "$TestDrive/changed" | Should -Not -Exist
    }
}
