BeforeDiscovery {
    # What a user may pass, the error's id, what it must name, and what the advice must say.
    $mistakes = @(
        @{
            what = 'base and adapter the other way round'; id = 'InvalidModel'
            base = 'cases/lora-all-linear/adapter'; adapter = 'bases/llama-bf16'
            names = 'config.json'; advice = 'This is an adapter, trained on ''org/llama-bf16''. Pass'
        }
        @{
            what = 'a model as the adapter'; id = 'InvalidAdapter'
            base = 'bases/llama-bf16'; adapter = 'bases/llama-bf16'
            names = 'adapter_config.json'; advice = 'It holds a model. Pass it as the base'
        }
        @{
            what = 'a folder above the adapter'; id = 'InvalidAdapter'
            base = 'bases/llama-bf16'; adapter = 'cases/lora-all-linear'
            names = 'below it: adapter'; advice = 'that directory'
        }
        @{
            what = 'a base that is not there'; id = 'PathNotFound'
            base = 'bases/no-such'; adapter = 'cases/lora-all-linear/adapter'
            names = 'no-such'; advice = 'Hugging Face'
        }
        @{
            what = 'an adapter that is not there'; id = 'PathNotFound'
            base = 'bases/llama-bf16'; adapter = 'cases/no-such/adapter'
            names = 'no-such'; advice = 'adapter_config.json'
        }
        @{
            what = 'a file as the base'; id = 'InvalidModel'
            base = 'bases/llama-bf16/model.safetensors'; adapter = 'cases/lora-all-linear/adapter'
            names = 'is a file'; advice = 'bases/llama-bf16''.'
        }
        @{
            what = 'a file as the adapter'; id = 'InvalidAdapter'
            base = 'bases/llama-bf16'; adapter = 'cases/lora-all-linear/adapter/adapter_model.safetensors'
            names = 'is a file'; advice = 'directory'
        }
        @{
            what = 'an adapter for another model'; id = 'AdapterDoesNotFit'
            base = 'bases/gpt2-fp32'; adapter = 'cases/lora-all-linear/adapter'
            names = 'lora_A.weight'; advice = 'base'
        }
        @{
            what = 'a base with fewer layers or other shapes'; id = 'AdapterDoesNotFit'
            base = 'bases/qwen2-bf16'; adapter = 'cases/gemma2/adapter'
            names = '8 of its 8'; advice = 'base'
        }
        @{
            what = 'a base whose shard is missing'; id = 'InvalidModel'
            base = 'bases/llama-missing-shard'; adapter = 'cases/lora-all-linear/adapter'
            names = 'model-0000'; advice = 'Download'
        }
        @{
            what = 'a base whose shard is truncated'; id = 'InvalidSafetensors'
            base = 'bases/llama-truncated'; adapter = 'cases/lora-all-linear/adapter'
            names = 'model-00002-of-00005.safetensors'; advice = 'truncated'
        }
        @{
            what = 'a base in an unknown format'; id = 'UnsupportedFormat'
            base = 'bases/q-unknown'; adapter = 'cases/lora-all-linear/adapter'
            names = 'q-unknown'; advice = '16-bit original'
        }
        @{
            what = 'an adapter that cannot be merged'; id = 'UnsupportedAdapter'
            base = 'bases/llama-bf16'; adapter = 'cases/refuse-alora/adapter'
            names = 'alora_invocation_tokens'; advice = 'LoRA'
        }
    )
}

BeforeAll {
    . "$PSScriptRoot/Session.ps1"

    $llama = Get-Base 'llama-bf16'
    $lora = Get-Adapter 'lora-all-linear'
}

Describe 'Mistakes' {
    It 'is told: <what>' -ForEach $mistakes {
        $failure = { Merge-LoraModel (Join-Path $Fixtures $base) (Join-Path $Fixtures $adapter) } |
            Should -Throw -ErrorId "$id,UnslothMerge.PowerShell.Commands.MergeLoraModelCommand" -PassThru
        $failure.Exception.Message | Should -Match ([regex]::Escape($names))
        "$failure" | Should -Match ([regex]::Escape($advice))
        "$failure".StartsWith($failure.Exception.Message) | Should -BeTrue
        "$failure".EndsWith("`n$($failure.Exception.Advice)") | Should -BeTrue
        $failure.ErrorDetails.RecommendedAction | Should -BeNullOrEmpty -Because 'PowerShell would show it once more'
        $failure.TargetObject | Should -Not -BeNullOrEmpty
        $failure.CategoryInfo.Category | Should -Not -Be 'NotSpecified'
    }

    It 'lists every tensor that found no place' {
        $failure = { Merge-LoraModel (Get-Base 'gpt2-fp32') $lora } | Should -Throw -ErrorId 'AdapterDoesNotFit,*' -PassThru
        $failure.Exception.Details | Should -HaveCount 28
        $failure.Exception.Message | Should -Match 'and 18 more'
        $failure.ErrorDetails.Message | Should -Match 'Details'
    }

    It 'wants one weight for each adapter' {
        $failure = { Merge-LoraModel $llama $lora -Weight 1, 2 } |
            Should -Throw 'There is 1 adapter, but 2 weights.' -ErrorId 'InvalidOption,*' -PassThru
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
        $out = Join-Path $TestDrive 'device'
        $failure = { Merge-LoraModel $llama $lora | Save-MergedModel $out -Device gpu } |
            Should -Throw '*gpu*not a device*' -ErrorId 'InvalidOption,*' -PassThru
        "$failure" | Should -Match 'cuda:1'
        $failure = { Merge-LoraModel $llama $lora | Save-MergedModel $out -Device cuda:99 } |
            Should -Throw -ErrorId 'DeviceUnavailable,*' -PassThru
        "$failure" | Should -Match '-Device cpu'
        $failure.CategoryInfo.Category | Should -Be 'ResourceUnavailable'
        { Get-MergeMemoryPlan $llama $lora -Device cuda:99 } | Should -Throw -ErrorId 'DeviceUnavailable,*'
        $out | Should -Not -Exist
    }

    It 'sees that the base changed between the merge and the save' {
        $folder = Copy-Folder $llama 'changing'
        $tensors = Merge-LoraModel $folder $lora
        (Get-Item "$folder/model.safetensors").LastWriteTime = (Get-Date).AddMinutes(1)
        $failure = { $tensors | Save-MergedModel "$TestDrive/changed" } |
            Should -Throw '*model.safetensors*' -ErrorId 'FileChanged,*' -PassThru
        "$failure" | Should -Match 'Merge-LoraModel again'
        "$TestDrive/changed" | Should -Not -Exist
    }
}
