BeforeDiscovery {
    $dtypes = @{ dtype = 'auto'; stored = 'BF16'; config = 'bfloat16' },
              @{ dtype = 'float16'; stored = 'F16'; config = 'float16' },
              @{ dtype = 'F32'; stored = 'F32'; config = 'float32' },
              @{ dtype = 'bfloat16'; stored = 'BF16'; config = 'bfloat16' }
}

BeforeAll {
    . "$PSScriptRoot/Session.ps1"

    $base = Get-Base 'llama-bf16'
    $adapter = Get-Adapter 'lora-all-linear'

    function Get-FileName([string] $Folder) { (Get-ChildItem $Folder -Force).Name | Sort-Object }
}

Describe 'Where a model is saved' {
    It 'is not the base, not inside it, not around it, and not an adapter' {
        $myBase = Copy-Folder $base 'places/base'
        $myAdapter = Copy-Folder $adapter 'places/adapter'
        foreach ($place in $myBase, "$myBase/out", (Split-Path $myBase), $myAdapter, "$myAdapter/out") {
            $failure = { Merge-LoraModel $myBase $myAdapter | Save-MergedModel $place -Force } |
                Should -Throw '*never written to*' -ErrorId 'InvalidDestination,*' -PassThru
            $failure.CategoryInfo.Category | Should -Be 'InvalidArgument'
            $failure.TargetObject | Should -Be $place
            "$failure" | Should -Match '-Destination'
        }
        Get-FileName $myBase | Should -Be (Get-FileName $base)
    }

    It 'is replaced with -Force only' {
        $out = Join-Path $TestDrive 'replaced'
        $null = Merge-LoraModel $base $adapter | Save-MergedModel $out -MaxShardSize 5kB
        Join-Path $out 'model.safetensors.index.json' | Should -Exist
        $failure = { Merge-LoraModel $base $adapter | Save-MergedModel $out } |
            Should -Throw '*exists already*' -ErrorId 'DestinationExists,*' -PassThru
        "$failure" | Should -Match '-Force'

        $null = Merge-LoraModel $base $adapter | Save-MergedModel $out -Force
        Get-FileName $out | Should -Be 'config.json', 'generation_config.json', 'merge.json', 'model.safetensors', 'README.md'
    }

    It 'keeps what belongs to no model, even with -Force' {
        $out = Join-Path $TestDrive 'precious'
        $null = Merge-LoraModel $base $adapter | Save-MergedModel $out
        Set-Content "$out/thesis.docx" 'years of work'
        { Merge-LoraModel $base $adapter | Save-MergedModel $out -Force } | Should -Throw '*thesis.docx*' -ErrorId 'InvalidDestination,*'
        Join-Path $out 'thesis.docx' | Should -Exist
    }

    It 'may be an empty folder' {
        $out = New-Item (Join-Path $TestDrive 'empty') -ItemType Directory
        (Merge-LoraModel $base $adapter | Save-MergedModel $out).Path | Should -Exist
    }

    It 'is not a file' {
        $out = Join-Path $TestDrive 'file'
        Set-Content $out 'text'
        { Merge-LoraModel $base $adapter | Save-MergedModel $out -Force } | Should -Throw '*is a file*' -ErrorId 'InvalidDestination,*'
        Get-Content $out | Should -Be 'text'
    }

    It 'has nothing beside it afterwards' {
        $folder = Join-Path $TestDrive 'alone'
        $null = Merge-LoraModel $base $adapter | Save-MergedModel "$folder/out"
        $null = Merge-LoraModel $base $adapter | Save-MergedModel "$folder/out" -Force
        Get-FileName $folder | Should -Be 'out'
    }

    It 'has nothing of an interrupted save beside it once the next has ended' {
        $folder = Join-Path $TestDrive 'resumed'
        $null = New-Item "$folder/.out.unslothmerge/model" -ItemType Directory
        Set-Content "$folder/.out.unslothmerge/model/model-00001-of-00002.safetensors" 'cut short'
        $null = Merge-LoraModel $base $adapter |
            Save-MergedModel "$folder/out" -Restart -WarningVariable left -WarningAction SilentlyContinue
        $left | Should -Match 'interrupted save.*is removed'
        Get-FileName $folder | Should -Be 'out'
    }

    It 'has nothing in it or beside it after a failure' {
        $folder = New-Item (Join-Path $TestDrive 'failed') -ItemType Directory
        $bad = Get-Adapter 'refuse-overflow'
        $failure = { Merge-LoraModel (Get-Base 'llama-fp16') $bad | Save-MergedModel "$folder/out" } |
            Should -Throw -ErrorId 'NonFiniteResult,*' -PassThru
        $failure.TargetObject | Should -BeLike 'model.*.weight'
        "$failure" | Should -Not -BeNullOrEmpty
        Get-ChildItem $folder -Force | Should -BeNullOrEmpty
    }
}

Describe 'How a model is saved' {
    It 'as <dtype>' -ForEach $dtypes {
        $out = Join-Path $TestDrive $dtype
        $null = Merge-LoraModel $base $adapter | Save-MergedModel $out -DType $dtype
        (Get-ModelTensor $out).DType | Where-Object { $_ -ne $stored } | Should -BeNullOrEmpty
        (Read-Json "$out/config.json").dtype | Should -Be $config
    }

    It 'leaves the rest of config.json as it was' {
        $out = Join-Path $TestDrive 'config'
        $null = Merge-LoraModel $base $adapter | Save-MergedModel $out
        Get-Content "$out/config.json" -Raw | Should -BeExactly (Get-Content "$base/config.json" -Raw)
        $null = Merge-LoraModel $base $adapter | Save-MergedModel $out -DType float16 -Force
        Get-Content "$out/config.json" -Raw | Should -BeExactly ((Get-Content "$base/config.json" -Raw) -replace '"bfloat16"', '"float16"')
    }

    It 'in shards with an index' {
        $out = Join-Path $TestDrive 'shards'
        $shards = @(Merge-LoraModel $base $adapter | Save-MergedModel $out -MaxShardSize 5kB)
        $shards.Count | Should -BeGreaterThan 2
        $shards[0].Name | Should -Be ('model-00001-of-{0:d5}.safetensors' -f $shards.Count)
        $index = Read-Json "$out/model.safetensors.index.json"
        $index.metadata.total_size | Should -Be 15640
        $map = $index.weight_map.psobject.Properties
        @($map) | Should -HaveCount 21
        foreach ($entry in $map) {
            ($shards | Where-Object Name -eq $entry.Value).Tensors.Name | Should -Contain $entry.Name
        }
        @(Merge-LoraModel $out) | Should -HaveCount 21
    }

    It 'with a shard size of <size>' -ForEach @{ size = '4KiB' }, @{ size = '5 kB' }, @{ size = 5000 } {
        $out = Join-Path $TestDrive 'sizes'
        @(Merge-LoraModel $base | Save-MergedModel $out -MaxShardSize $size -Force).Count | Should -BeGreaterThan 1
    }

    It 'not with a shard size of <size>' -ForEach @{ size = '0' }, @{ size = '-5GB' }, @{ size = 'big' } {
        $failure = { Merge-LoraModel $base | Save-MergedModel (Join-Path $TestDrive 'nosize') -MaxShardSize $size } |
            Should -Throw -ErrorId 'InvalidOption,*' -PassThru
        $failure.TargetObject | Should -Be 'MaxShardSize'
        "$failure" | Should -Match '5GB'
    }

    It 'within the memory allowed, or not at all' {
        $out = Join-Path $TestDrive 'memory'
        $failure = { Merge-LoraModel $base $adapter | Save-MergedModel $out -MaximumMemoryUsage 1MB } |
            Should -Throw -ErrorId 'DoesNotFit,*' -PassThru
        $failure.TargetObject | Should -Be 'MaximumMemoryUsage'
        $out | Should -Not -Exist
        { Merge-LoraModel $base $adapter | Save-MergedModel $out -MaximumMemoryUsage 1.5x } | Should -Throw -ErrorId 'InvalidOption,*'
        $null = Merge-LoraModel $base $adapter | Save-MergedModel $out -MaximumMemoryUsage 0.5
        $out | Should -Exist
    }

    It 'takes a method by name in any spelling, as the value itself, and no other' {
        $tensors = Merge-LoraModel $base $adapter
        $path = Join-Path $TestDrive 'named'
        foreach ($method in 'merged_4bit', 'Merged 4-bit', 'forced_merged_4bit', [UnslothMerge.PowerShell.SaveMethod]::merged_4bit) {
            $null = $tensors | Save-MergedModel $path -Method $method -Force 3> $null
            (Read-Json "$path/config.json").quantization_config.load_in_4bit | Should -BeTrue -Because $method
        }
        { $tensors | Save-MergedModel $path -Method merged_5bit -Force } |
            Should -Throw '*merged_5bit*merged_16bit, merged*lora*' -ErrorId 'ParameterArgumentTransformationError,*'
        { $tensors | Save-MergedModel $path -Method $null -Force } | Should -Throw -ErrorId 'ParameterArgumentValidationError,*'
        { Merge-LoraModel $base $adapter -CombinationType tise } |
            Should -Throw '*tise*sum, ties*' -ErrorId 'ParameterArgumentTransformationError,*'
        Merge-LoraModel $base $adapter -CombinationType ties -Density 0.5 -MoeOrientation $null | Should -HaveCount 21
    }

    It 'says in which format each tensor is' {
        $shard = Merge-LoraModel $base $adapter | Save-MergedModel "$TestDrive/formats" -Method merged_4bit 3> $null
        $shard.Tensors | Group-Object Format, DType -NoElement | ForEach-Object { "$($_.Count) $($_.Name)" } |
            Should -Be '7 BF16, BF16', '14 NF4, U8'
        $shard.Tensors | Out-String -Width 80 | Should -Match '(?s)Format.*Merge\s+20x26\s+NF4'
    }

    It 'refuses what a parameter does not take' {
        $out = Join-Path $TestDrive 'never'
        { Merge-LoraModel $base | Save-MergedModel $out -Method gguf } | Should -Throw '*llama.cpp*' -ErrorId 'InvalidOption,*'
        { Merge-LoraModel $base | Save-MergedModel $out -DType int4 } |
            Should -Throw '*int4*auto, bfloat16, float16*' -ErrorId 'ParameterArgumentTransformationError,*'
        { Merge-LoraModel $base | Save-MergedModel $out -ThrottleLimit 0 } | Should -Throw -ErrorId 'ParameterArgumentValidationError,*'
        { Merge-LoraModel $base | Save-MergedModel $out -Destinatoin x } | Should -Throw '*Destinatoin*' -ErrorId 'NamedParameterNotFound,*'
        { Merge-LoraModel -Bse $base } | Should -Throw '*Bse*' -ErrorId 'NamedParameterNotFound,*'
    }

    It 'with a line for each shard, and its own time' {
        $out = Join-Path $TestDrive 'told'
        $said = Merge-LoraModel $base $adapter | Save-MergedModel $out -MaxShardSize 5KB -Verbose 4>&1
        $shards = @($said | Where-Object { $_ -isnot [Management.Automation.VerboseRecord] })
        $lines = @($said | Where-Object { $_ -is [Management.Automation.VerboseRecord] -and "$_" -like 'model-*' })
        $lines | Should -HaveCount $shards.Count
        foreach ($shard in $shards) {
            $shard.Seconds | Should -BeOfType ([double])
            $counts = "$($shard.Name): $($shard.Tensors.Count) tensor*, $($shard.Changed) changed"
            @($lines -like "$counts, * in * s, */s; written*.") | Should -HaveCount 1
        }
        @($said -like "Saved '$out': * files, weights of * in * s, */s.") | Should -HaveCount 1
    }

    It 'knows Unsloth''s names for the parameters' {
        $out = Join-Path $TestDrive 'names'
        (Merge-LoraModel $base $adapter | Save-MergedModel -SaveDirectory $out -SaveMethod merged_16bit).Path | Should -Exist
    }

    It 'as the adapter alone' {
        $out = Join-Path $TestDrive 'lora'
        $saved = Merge-LoraModel $base $adapter | Save-MergedModel $out -Method lora
        $saved.Name | Should -Be 'adapter_model.safetensors'
        $saved.Bytes | Should -Be (Get-Item "$out/adapter_model.safetensors").Length
        $saved.Tensors.Name | Sort-Object | Should -Be ((Get-LoraAdapter $out).Targets.Inputs | Sort-Object)
        $saved.Changed | Should -Be 0
        foreach ($file in 'adapter_model.safetensors', 'adapter_config.json') {
            (Get-FileHash "$out/$file").Hash | Should -Be (Get-FileHash "$adapter/$file").Hash
        }
        "$out/config.json" | Should -Not -Exist
        (Get-LoraAdapter $out).Modules | Should -Be (Get-LoraAdapter $adapter).Modules
    }

    It 'a raw dump or a pickle as the adapter that PEFT would save' {
        $dump = Get-Adapter 'raw-dump'
        $bin = Get-Adapter 'bin-adapter'
        foreach ($it in $dump, $bin) {
            $out = Join-Path $TestDrive 'normal' (Split-Path (Split-Path $it) -Leaf)
            $null = Merge-LoraModel $base $it | Save-MergedModel $out -Method lora -NoSync
            $names = (Get-LoraAdapter $out).Targets.Inputs -split ', '
            $names | Should -Not -BeNullOrEmpty
            $names | Where-Object { $_ -match 'default|modules_to_save' } | Should -BeNullOrEmpty
            $names | Where-Object { $_ -notlike 'base_model.model.*' } | Should -BeNullOrEmpty

            # It merges to the same model as what it was made of.
            $null = Merge-LoraModel $base $it | Save-MergedModel "$out-1" -NoSync
            $null = Merge-LoraModel $base $out | Save-MergedModel "$out-2" -NoSync
            (Get-FileHash "$out-2/model.safetensors").Hash | Should -Be (Get-FileHash "$out-1/model.safetensors").Hash
        }
    }

    It 'not as the adapter alone if that would not be what was asked for' {
        $out = Join-Path $TestDrive 'not-lora'
        { Merge-LoraModel $base $adapter -Weight 0.5 | Save-MergedModel $out -Method lora } |
            Should -Throw '*weight is 0.5*' -ErrorId 'InvalidOption,*'
        { Merge-LoraModel $base $adapter, $adapter | Save-MergedModel $out -Method lora } |
            Should -Throw '*2 adapters*' -ErrorId 'InvalidOption,*'
        { Merge-LoraModel $base | Save-MergedModel $out -Method lora } | Should -Throw '*0 adapters*' -ErrorId 'InvalidOption,*'
        { Merge-LoraModel $base $adapter | ForEach-Object { $_.Strength = 0; $_ } | Save-MergedModel $out -Method lora } |
            Should -Throw '*Strength*' -ErrorId 'InvalidOption,*'
        { Merge-LoraModel $base $adapter | Where-Object Layer -eq 0 | Save-MergedModel $out -Method lora } |
            Should -Throw '*9 of the merge''s 21*' -ErrorId 'InvalidOption,*'
        $out | Should -Not -Exist
    }
}
