BeforeDiscovery {
    $merges = @{ name = 'lora-all-linear'; base = 'llama-bf16'; changed = 14 },
              @{ name = 'sharded-all-linear'; base = 'llama-sharded-bf16'; changed = 15 },
              @{ name = 'q-nf4'; base = 'q-nf4'; changed = 7 }
}

BeforeAll {
    . "$PSScriptRoot/Session.ps1"

    $base = Get-Base 'llama-bf16'
    $adapter = Get-Adapter 'lora-all-linear'
    $other = Get-Adapter 'lora-attention'

    # Everything in a folder: relative path and hash of each file.
    function Get-Fingerprint([string] $Folder) {
        $files = Get-ChildItem $Folder -Recurse -Force -File | Sort-Object FullName
        ($files | ForEach-Object { "$($_.FullName.Substring($Folder.Length)) $((Get-FileHash $_).Hash)" }) -join "`n"
    }

    function Get-WeightHash([string] $Folder) { (Get-FileHash "$Folder/model.safetensors").Hash }
}

Describe 'Adapters whose folders have one name' {
    It 'are told apart' {
        $both = 'x', 'y' | ForEach-Object { Copy-Folder $adapter "$_/adapter" }
        $tensor = Merge-LoraModel $base $both | Where-Object Rank | Select-Object -First 1
        $tensor.Adapters | Should -Be 'adapter', 'y/adapter'
        $tensor = Merge-LoraModel $base $both[0] | Merge-LoraModel -Adapter $both[1] | Where-Object Rank | Select-Object -First 1
        $tensor.Adapters | Should -Be 'adapter', 'y/adapter'
        (Merge-LoraModel $base $both[0], $both[0] | Where-Object Rank | Select-Object -First 1).Adapters | Should -Be 'adapter'
    }
}

Describe 'Merging and saving' {
    It 'saves <name>' -ForEach $merges {
        $out = Join-Path $TestDrive $name
        $shards = @(Merge-LoraModel (Get-Base $base) (Get-Adapter $name) | Save-MergedModel $out)
        $shards | Should -HaveCount 1
        $shards[0] | Should -BeOfType ([UnslothMerge.PowerShell.SavedModelShard])
        $shards[0].Path | Should -Exist
        $shards[0].Bytes | Should -Be (Get-Item $shards[0].Path).Length
        $shards[0].Changed | Should -Be $changed
        @($shards[0].Tensors | Where-Object RelativeChange -gt 0) | Should -HaveCount $changed
        Join-Path $out 'config.json' | Should -Exist
        Join-Path $out 'README.md' | Should -Exist
        @(Get-ModelTensor $out) | Should -HaveCount @($shards.Tensors).Count
    }

    It 'saves the same bytes every time, from the same objects too' {
        $tensors = Merge-LoraModel $base $adapter
        $null = $tensors | Save-MergedModel (Join-Path $TestDrive 'once' 'out')
        $null = $tensors | Save-MergedModel (Join-Path $TestDrive 'twice' 'out') -ThrottleLimit 1
        $null = Merge-LoraModel $base $adapter | Save-MergedModel (Join-Path $TestDrive 'thrice' 'out') -ThrottleLimit 64
        $once = Get-Fingerprint (Join-Path $TestDrive 'once')
        $once | Should -Match 'model.safetensors'
        Get-Fingerprint (Join-Path $TestDrive 'twice') | Should -Be $once
        Get-Fingerprint (Join-Path $TestDrive 'thrice') | Should -Be $once
    }

    It 'writes nothing into the base or the adapter' {
        $before = (Get-Fingerprint $base), (Get-Fingerprint $adapter)
        $null = Merge-LoraModel $base $adapter | Save-MergedModel (Join-Path $TestDrive 'untouched')
        (Get-Fingerprint $base), (Get-Fingerprint $adapter) | Should -Be $before
    }

    It 'touches nothing with -WhatIf' {
        $out = Join-Path $TestDrive 'whatif' 'out'
        Merge-LoraModel $base $adapter | Save-MergedModel $out -WhatIf | Should -BeNullOrEmpty
        Merge-LoraModel $base $adapter | Save-MergedModel $out -Method lora -WhatIf | Should -BeNullOrEmpty
        Split-Path $out | Should -Not -Exist
    }

    It 'still refuses with -WhatIf what it would refuse without' {
        { Merge-LoraModel $base $adapter | Save-MergedModel $base -WhatIf } | Should -Throw -ErrorId 'InvalidDestination,*'
    }

    It 'converts a base without an adapter' {
        $out = Join-Path $TestDrive 'converted'
        $shards = Merge-LoraModel $base | Save-MergedModel $out
        $shards.Changed | Should -Be 0
        $shards.Tensors | Where-Object { $null -ne $_.RelativeChange } | Should -BeNullOrEmpty
        $shards.Tensors[0].Action | Should -Be 'Copy'
    }

    It 'takes a plan from the pipeline' {
        $plain = Join-Path $TestDrive 'plain'
        $planned = Join-Path $TestDrive 'planned'
        $null = Merge-LoraModel $base $adapter | Save-MergedModel $plain
        $null = Get-MergeMemoryPlan $base $adapter | Merge-LoraModel | Save-MergedModel $planned
        Get-WeightHash $planned | Should -Be (Get-WeightHash $plain)
    }

    It 'takes an adapter from the pipeline' {
        @(Get-LoraAdapter $adapter | Merge-LoraModel $base | Where-Object Action -eq 'Merge') | Should -HaveCount 14
        @(Get-Item $adapter | Merge-LoraModel $base | Where-Object Action -eq 'Merge') | Should -HaveCount 14
        (Get-LoraAdapter $adapter, $other | Get-MergeMemoryPlan $base).Adapter | Should -Be $adapter, $other
        $both = Get-LoraAdapter $adapter, $other | Merge-LoraModel $base
        $both | Should -HaveCount 21 -Because 'both are one merge'
        { @($both) + @(Merge-LoraModel $base $adapter) | Save-MergedModel "$TestDrive/two" } |
            Should -Throw '*another merge*' -ErrorId 'InvalidOption,*'
    }

    It 'takes a plan with weights, and one without adapters' {
        $expected = Join-Path $TestDrive 'weighted'
        $planned = Join-Path $TestDrive 'weighted-plan'
        $null = Merge-LoraModel $base $adapter, $other -Weight 0.5, -1 | Save-MergedModel $expected
        $null = Get-MergeMemoryPlan $base $adapter, $other -Weight 0.5, -1 | Merge-LoraModel | Save-MergedModel $planned
        Get-WeightHash $planned | Should -Be (Get-WeightHash $expected)
        @(Get-MergeMemoryPlan $base | Merge-LoraModel -ErrorAction Stop) | Should -HaveCount @(Get-ModelTensor $base).Count
    }

    It 'composes two merges as if both adapters had been given at once' {
        $once = Join-Path $TestDrive 'both'
        $composed = Join-Path $TestDrive 'composed'
        $null = Merge-LoraModel $base $adapter, $other -Weight 1, -0.3 | Save-MergedModel $once
        $null = Merge-LoraModel $base $adapter | Merge-LoraModel -Adapter $other -Weight -0.3 | Save-MergedModel $composed
        Get-WeightHash $composed | Should -Be (Get-WeightHash $once)
    }

    It 'keeps the Strength that a tensor had before the second merge' {
        $expected = Join-Path $TestDrive 'strength-then'
        $actual = Join-Path $TestDrive 'strength-now'
        $null = Merge-LoraModel $base $adapter, $other -Weight 0.5, 1 | Save-MergedModel $expected
        $null = Merge-LoraModel $base $adapter | ForEach-Object { $_.Strength = 0.5; $_ } | Merge-LoraModel -Adapter $other |
            Save-MergedModel $actual
        Get-WeightHash $actual | Should -Be (Get-WeightHash $expected)
    }

    It 'names all adapters of a tensor' {
        $tensors = Merge-LoraModel $base (Copy-Folder $adapter 'style'), (Copy-Folder $other 'tone')
        ($tensors | Where-Object Name -like '*layers.0*q_proj.weight').Adapters | Should -Be 'style', 'tone'
        ($tensors | Where-Object Name -like '*layers.0*up_proj.weight').Adapters | Should -Be 'style'
        ($tensors | Where-Object Name -eq 'model.norm.weight').Adapters | Should -BeNullOrEmpty
    }
}

Describe 'The tensors of a merge' {
    BeforeAll {
        $reference = Join-Path $TestDrive 'reference'
        $null = Merge-LoraModel $base $adapter | Save-MergedModel $reference
    }

    It 'tell what they are' {
        $tensor = Merge-LoraModel $base $adapter | Where-Object Name -eq 'model.layers.1.mlp.down_proj.weight'
        "$tensor" | Should -Be 'model.layers.1.mlp.down_proj.weight'
        $tensor.Action | Should -Be 'Merge'
        "$($tensor.Shape)" | Should -Be '20x26'
        $tensor.Shape -eq "20$([char] 0xD7)26" | Should -BeTrue
        $tensor.Shape[0] | Should -Be 20
        $tensor.Shape[-1] | Should -Be 26
        $tensor.Shape.Count | Should -Be 520
        $tensor.Shape.Rank | Should -Be 2
        $tensor.Parameters | Should -Be 520
        $tensor.DType | Should -Be 'BF16'
        $tensor.Format | Should -Be 'BF16'
        $tensor.Layer | Should -Be 1
        $tensor.Module | Should -Be 'mlp.down_proj'
        $tensor.Component | Should -Be 'text'
        $tensor.Rank | Should -BeGreaterThan 0
        $tensor.Adapters | Should -Be 'adapter'
        $tensor.Strength | Should -Be 1
        $tensor.SourceShard | Should -Be 'model.safetensors'
    }

    It 'have no layer, rank or strength where there is none' {
        $tensor = Merge-LoraModel $base $adapter | Where-Object Name -eq 'model.norm.weight'
        $tensor.Action | Should -Be 'Copy'
        "$($tensor.Shape)" | Should -Be '20'
        $null -eq $tensor.Layer | Should -BeTrue
        $null -eq $tensor.Rank | Should -BeTrue
        $null -eq $tensor.Strength | Should -BeTrue
        $tensor.Strength = 0.5
        $null -eq $tensor.Strength | Should -BeTrue
    }

    It 'have shapes that compare by their number of elements' {
        $tensors = Merge-LoraModel $base $adapter
        $small = ($tensors | Where-Object Name -like '*layers.0*k_proj.weight').Shape # 12 x 20
        $large = ($tensors | Where-Object Name -eq 'lm_head.weight').Shape # 43 x 20
        $small -lt $large | Should -BeTrue
        $large -gt $small | Should -BeTrue
        $small.Equals(($tensors | Where-Object Name -like '*layers.1*k_proj.weight').Shape) | Should -BeTrue
    }

    It 'sort by shape' {
        $counts = Merge-LoraModel $base $adapter | Sort-Object Shape | ForEach-Object Parameters
        $counts[0] | Should -BeLessThan $counts[-1]
        $counts | Should -Be ($counts | Sort-Object)
    }

    It 'keep the base where their Strength is 0' {
        $out = Join-Path $TestDrive 'zero'
        $plain = Join-Path $TestDrive 'plain-base'
        $null = Merge-LoraModel $base $adapter | ForEach-Object { $_.Strength = 0; $_ } | Save-MergedModel $out
        $null = Merge-LoraModel $base | Save-MergedModel $plain
        Get-WeightHash $out | Should -Be (Get-WeightHash $plain)
        Get-WeightHash $out | Should -Not -Be (Get-WeightHash $reference)
    }

    It 'go through ForEach-Object with another Strength' {
        $out = Join-Path $TestDrive 'half'
        $saved = (Merge-LoraModel $base $adapter | ForEach-Object { if ($_.Layer -in 0..0) { $_.Strength = 0.5 }; $_ } |
            Save-MergedModel $out).Tensors
        $whole = (Merge-LoraModel $base $adapter | Save-MergedModel $out -Force).Tensors
        foreach ($tensor in $whole | Where-Object RelativeChange) {
            $factor = ($saved | Where-Object Name -eq $tensor.Name).RelativeChange / $tensor.RelativeChange
            [Math]::Round($factor, 5) | Should -Be $(if ($tensor.Name -like '*layers.0.*') { 0.5 } else { 1 })
        }
    }

    It 'take any finite Strength, and only such' {
        $out = Join-Path $TestDrive 'strengths'
        foreach ($strength in -1, 2.5, '0.25') {
            $null = Merge-LoraModel $base $adapter | ForEach-Object { $_.Strength = $strength; $_ } | Save-MergedModel $out -Force
        }
        { Merge-LoraModel $base $adapter | ForEach-Object { $_.Strength = [double]::NaN; $_ } | Save-MergedModel $out -Force } |
            Should -Throw '*finite*' -ErrorId 'InvalidOption,*'
        { Merge-LoraModel $base $adapter | ForEach-Object { $_.Strength = 'much'; $_ } } | Should -Throw
    }

    It 'may come in any order' {
        $out = Join-Path $TestDrive 'reversed'
        $tensors = @(Merge-LoraModel $base $adapter)
        [Array]::Reverse($tensors)
        $null = $tensors | Save-MergedModel $out
        Get-WeightHash $out | Should -Be (Get-WeightHash $reference)
    }

    It 'must be complete' {
        $out = Join-Path $TestDrive 'incomplete'
        $failure = { Merge-LoraModel $base $adapter | Where-Object Layer -in (0..0) | Save-MergedModel $out } |
            Should -Throw -ErrorId 'IncompleteModel,UnslothMerge.PowerShell.Commands.SaveMergedModelCommand' -PassThru
        $failure.Exception.Message | Should -Match '12 of 21 tensors are missing'
        $failure.Exception.Details | Should -Contain 'lm_head.weight'
        "$failure" | Should -Match '-AllowPartial'
        $out | Should -Not -Exist
    }

    It 'may be a part with -AllowPartial' {
        $out = Join-Path $TestDrive 'partial'
        $null = Merge-LoraModel $base $adapter | Where-Object Layer -in (0..0) | Save-MergedModel $out -AllowPartial
        $names = (Get-ModelTensor $out).Name
        $names | Should -HaveCount 9
        $names | Where-Object { $_ -notlike 'model.layers.0.*' } | Should -BeNullOrEmpty
    }

    It 'may come once only' {
        $tensors = Merge-LoraModel $base $adapter
        { @($tensors) + @($tensors) | Save-MergedModel (Join-Path $TestDrive 'double') } |
            Should -Throw '*in the pipeline twice*' -ErrorId 'InvalidOption,*'
    }

    It 'may not be mixed with those of another merge' {
        $first = @(Merge-LoraModel $base $adapter)
        $second = @(Merge-LoraModel $base $adapter)
        { $first[0..4] + $second[5..99] | Save-MergedModel (Join-Path $TestDrive 'mixed') } |
            Should -Throw '*another merge*' -ErrorId 'InvalidOption,*'
        { $first[0..4] + $second[5..99] | Merge-LoraModel -Adapter $other -ErrorAction Stop } |
            Should -Throw '*another merge*' -ErrorId 'InvalidOption,*'
    }

    It 'cannot be something else' {
        $out = Join-Path $TestDrive 'else'
        { 'model.norm.weight' | Save-MergedModel $out } | Should -Throw '*System.String*' -ErrorId 'InvalidOption,*'
        { $null | Save-MergedModel $out } | Should -Throw '*null*' -ErrorId 'InvalidOption,*'
        { @() | Save-MergedModel $out } | Should -Throw '*no tensors*' -ErrorId 'InvalidArgument,*'
        { Get-ModelTensor $base | Save-MergedModel $out } | Should -Throw '*ModelTensor*' -ErrorId 'InvalidOption,*'
        { 'x' | Merge-LoraModel -Adapter $adapter -ErrorAction Stop } | Should -Throw -ErrorId 'InputObjectNotBound,*'
        $out | Should -Not -Exist
    }

    It 'do not survive being serialized' {
        Merge-LoraModel $base $adapter | Export-Clixml "$TestDrive/tensors.xml"
        $restored = Import-Clixml "$TestDrive/tensors.xml"
        $restored[0].Name | Should -Not -BeNullOrEmpty
        { $restored | Save-MergedModel (Join-Path $TestDrive 'restored') } | Should -Throw '*serialized*' -ErrorId 'InvalidOption,*'
    }

    It 'can be exported' {
        $tensors = Merge-LoraModel $base $adapter
        ($tensors | ConvertTo-Csv)[0] | Should -Match 'Name'
        ($tensors | ConvertTo-Csv) -join '' | Should -Match '43x20'
        ($tensors | ConvertTo-Json -Depth 2 | ConvertFrom-Json) | Should -HaveCount @($tensors).Count
    }
}

Describe 'A merge of a merge' {
    It 'is refused unless it is asked for' {
        $out = Join-Path $TestDrive 'first'
        $null = Merge-LoraModel $base $adapter | Save-MergedModel $out
        (Read-Json "$out/merge.json").adapters.weight | Should -Be 1
        { Merge-LoraModel $out $adapter -ErrorAction Stop } | Should -Throw -ErrorId 'MergedBase,*'
        @(Merge-LoraModel $out $other).Count | Should -BeGreaterThan 0
        @(Merge-LoraModel $out $adapter -AllowMergedBase).Count | Should -BeGreaterThan 0
    }
}

Describe 'The base that an adapter names' {
    BeforeAll {
        function New-Adapter([string] $Name, [string] $Base) {
            $folder = Copy-Folder $adapter $Name
            $config = Read-Json "$folder/adapter_config.json"
            $config.base_model_name_or_path = $Base
            $config | ConvertTo-Json -Depth 9 | Set-Content "$folder/adapter_config.json"
            $folder
        }
    }

    It 'is told with -Verbose where it is the one given' {
        $said = Merge-LoraModel $base $adapter -Verbose 3>&1 4>&1
        $said | Where-Object { $_ -is [Management.Automation.WarningRecord] } | Should -BeNullOrEmpty
        $said | Where-Object { "$_" -like '*org/llama-bf16*the base that it names*' } | Should -HaveCount 1
    }

    It 'is no reason to warn where a plain folder has another name' {
        $null = Merge-LoraModel $base (New-Adapter 'elsewhere' 'org/some-model') -WarningVariable warnings
        $warnings | Should -BeNullOrEmpty
    }

    It 'is told with -Verbose where it is the quantized form of the one given' {
        $said = Merge-LoraModel $base (New-Adapter 'qlora' 'unsloth/llama-bf16-bnb-4bit') -Verbose 3>&1 4>&1
        $said | Where-Object { $_ -is [Management.Automation.WarningRecord] } | Should -BeNullOrEmpty
        $said | Where-Object { "$_" -like "*names 'unsloth/llama-bf16-bnb-4bit'*16-bit form*" } | Should -HaveCount 1
    }

    It 'is warned of where it is another model' {
        $null = Merge-LoraModel $base (New-Adapter 'other-family' 'Qwen/Qwen2.5-7B') -WarningVariable warnings 3> $null
        "$warnings" | Should -BeLike "*names 'Qwen/Qwen2.5-7B'*a model of the type llama*"
    }
}
