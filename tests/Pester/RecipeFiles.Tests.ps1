BeforeAll {
    . "$PSScriptRoot/Session.ps1"
    Push-Location $TestDrive
    $null = Copy-Folder (Get-Base 'llama-bf16') 'base'
    $null = Copy-Folder (Get-Adapter 'lora-all-linear') 'adapters/style'
    $null = Copy-Folder (Get-Adapter 'lora-attention') 'adapters/facts'

    function Get-Weights([string] $Model) { (Get-FileHash "$Model/model.safetensors").Hash }

    # The merges that people build in a pipeline.
    $pipelines = @{
        plain = { Merge-LoraModel ./base ./adapters/style }
        weighted = { Merge-LoraModel ./base ./adapters/style, ./adapters/facts -Weight 0.5, -0.25 }
        ties = { Merge-LoraModel ./base ./adapters/style, ./adapters/facts -CombinationType dare_ties -Density 0.4 -Seed 7 }
        converted = { Merge-LoraModel ./base }
        strengths = {
            Merge-LoraModel ./base ./adapters/style | ForEach-Object {
                if ($_.Layer -eq 1) { $_.Strength = 0.3 }
                if ($_.Module -like '*q_proj') { $_.Strength = 0 }
                $_
            }
        }
        chain = {
            Merge-LoraModel ./base ./adapters/style |
                ForEach-Object { if ($_.Layer -eq 0) { $_.Strength = 0.5 }; $_ } |
                Merge-LoraModel -Adapter ./adapters/facts -Weight 2 |
                ForEach-Object { if ($_.Module -like '*o_proj') { $_.Strength = -1 }; $_ }
        }
    }
}

AfterAll { Pop-Location }

Describe 'A recipe' {
    It 'does what the pipeline does: <_>' -ForEach 'plain', 'weighted', 'ties', 'converted', 'strengths', 'chain' {
        & $pipelines[$_] | Save-MergedModel "./piped/$_" | Out-Null
        $file = & $pipelines[$_] | Export-MergeRecipe "./$_.yml"
        $file.Name | Should -Be "$_.yml"
        Merge-LoraModel -Recipe "./$_.yml" | Save-MergedModel "./run/$_" | Out-Null
        Get-Weights "./run/$_" | Should -Be (Get-Weights "./piped/$_")

        # What it makes of itself is itself.
        $null = Merge-LoraModel -Recipe "./$_.yml" | Export-MergeRecipe "./again-$_.yml"
        (Get-Content "./again-$_.yml" | Select-Object -Skip 1) | Should -Be (Get-Content "./$_.yml" | Select-Object -Skip 1)
    }

    It 'saves what it has an output for, from any location' {
        $null = & $pipelines.strengths | Export-MergeRecipe ./saved.json -Destination ./saved -Method merged_4bit -MaxShardSize 1GB
        (Read-Json ./saved.json).output.method | Should -Be merged_4bit
        $shards = Push-Location / && Merge-LoraModel -Recipe "$TestDrive/saved.json" -WarningAction Ignore && Pop-Location
        $shards | Should -BeOfType ([UnslothMerge.PowerShell.SavedModelShard])
        & $pipelines.strengths | Save-MergedModel ./by-hand -Method merged_4bit -WarningAction Ignore | Out-Null
        Get-Weights ./saved | Should -Be (Get-Weights ./by-hand)
    }

    It 'has every parameter of Save-MergedModel for its output' {
        @'
base: ./base
adapters: ./adapters/style
output:
  path: ./all-options
  dtype: float16
  variant: fp16
  tags: [mine, yours]
  throttle_limit: 1
  no_sync: true
'@ | Set-Content ./options.yml
        (Merge-LoraModel -Recipe ./options.yml).Name | Should -Be 'model.fp16.safetensors'
        Get-Content ./all-options/README.md -Raw | Should -Match '- yours'
    }

    It 'writes nothing with -WhatIf' {
        "base: ./base`nadapters: [./adapters/style]`noutput: ./nowhere" | Set-Content ./whatif.yml
        Merge-LoraModel -Recipe ./whatif.yml -WhatIf | Should -BeNullOrEmpty
        './nowhere' | Should -Not -Exist
        & $pipelines.plain | Export-MergeRecipe ./none.yml -WhatIf | Should -BeNullOrEmpty
        './none.yml' | Should -Not -Exist
    }

    It 'replaces a model with -Force, or as it says itself' {
        "base: ./base`nadapters: [./adapters/style]`noutput: ./twice" | Set-Content ./twice.yml
        $null = Merge-LoraModel -Recipe ./twice.yml
        $refused = { Merge-LoraModel -Recipe ./twice.yml } | Should -Throw -ErrorId 'DestinationExists,*' -PassThru
        "$refused" | Should -BeLike '*Use -Force*In the recipe: output.force: true, output.path.'
        Merge-LoraModel -Recipe ./twice.yml -Force | Should -HaveCount 1
        "base: ./twice`nadapters: [./adapters/style]" | Set-Content ./again.yml
        $refused = { Merge-LoraModel -Recipe ./again.yml } | Should -Throw -ErrorId 'MergedBase,*' -PassThru
        "$refused" | Should -BeLike '*In the recipe: allow_merged_base: true.'
        { Merge-LoraModel -Recipe ./again.yml -Force } | Should -Throw -ErrorId 'InvalidArgument,*'
    }

    It 'names what is wrong' {
        "base: ./base`nadapters: [./adapters/style]`noutput: {path: ./x, shard: 5GB}" | Set-Content ./bad.yml
        { Merge-LoraModel -Recipe ./bad.yml } | Should -Throw -ErrorId 'InvalidRecipe,*' -ExpectedMessage "*'output.shard'*"
        "base: ./base`nadapters: [./adapters/style]`nstrength: [{layers: 9, value: 0}]" | Set-Content ./bad.yml
        { Merge-LoraModel -Recipe ./bad.yml } | Should -Throw -ErrorId 'InvalidRecipe,*' -ExpectedMessage '*about no tensor*'
        { Merge-LoraModel -Recipe ./absent.yml } | Should -Throw -ErrorId 'InvalidRecipe,*' -ExpectedMessage '*does not exist*'
        { Merge-LoraModel -Recipe ./bad.yml -Seed 3 } |
            Should -Throw -ErrorId 'InvalidArgument,*' -ExpectedMessage '*belongs in the recipe*'
        { & $pipelines.plain | Where-Object Layer -EQ 0 | Export-MergeRecipe ./part.yml } |
            Should -Throw -ErrorId 'IncompleteModel,*'
        { & $pipelines.plain | Export-MergeRecipe ./bad.yml } | Should -Throw -ErrorId 'DestinationExists,*'
        { & $pipelines.plain | Export-MergeRecipe ./x.yml -Method merged } | Should -Throw -ErrorId 'InvalidArgument,*'
    }
}

Describe 'merge.json' {
    It 'is all that Test-MergedModel needs: <_>' -ForEach 'plain', 'weighted', 'ties', 'converted', 'strengths', 'chain' {
        & $pipelines[$_] | Save-MergedModel "./out/$_" | Out-Null
        Get-Content "./out/$_/merge.json" -Raw | Should -Not -Match ([regex]::Escape("$TestDrive"))
        $checks = Test-MergedModel "./out/$_" -Full
        $checks | Where-Object Passed -NE $true | ForEach-Object { "$_" } | Should -BeNullOrEmpty
        $checks.Check | Should -Contain 'Untouched'
    }

    It 'tells a model of the same shapes from the base' {
        $null = New-Item ./apart -ItemType Directory
        Copy-Item ./base ./apart/a-decoy -Recurse
        $bytes = [IO.File]::ReadAllBytes("$TestDrive/apart/a-decoy/model.safetensors")
        foreach ($i in ($bytes.Length - 4000)..($bytes.Length - 1)) { $bytes[$i] = $bytes[$i] -bxor 1 }
        [IO.File]::WriteAllBytes("$TestDrive/apart/a-decoy/model.safetensors", $bytes)
        Copy-Item ./base ./apart/model -Recurse
        Copy-Item ./adapters/style ./apart/adapter -Recurse
        & $pipelines.plain | Save-MergedModel ./apart/out | Out-Null
        Push-Location ./apart
        try { Test-MergedModel ./out -Full -Quiet | Should -BeTrue }
        finally { Pop-Location }
    }

    It 'is enough for a part of a model, and for what Save-MergedModel emits' {
        $null = & $pipelines.plain | Where-Object Layer -EQ 1 | Save-MergedModel ./part -AllowPartial
        (Test-MergedModel ./part | Where-Object Check -In Merged, Untouched).Passed | Should -Be $true, $true
        & $pipelines.plain | Save-MergedModel ./shards -MaxShardSize 5KB | Test-MergedModel -Quiet | Should -BeTrue
    }

    It 'says what it cannot find' {
        $null = New-Item ./lonely/adapters -ItemType Directory -Force
        & $pipelines.plain | Save-MergedModel ./lonely/out | Out-Null
        Push-Location ./lonely
        try {
            { Test-MergedModel ./out -ErrorAction Stop } |
                Should -Throw -ErrorId 'SourceNotFound,*' -ExpectedMessage 'The base that*was not found*'
            Test-MergedModel ./out -Quiet -ErrorAction SilentlyContinue | Should -BeFalse
        }
        finally { Pop-Location }
        { Test-MergedModel ./base -ErrorAction Stop } | Should -Throw -ErrorId 'SourceNotFound,*'
        { Test-MergedModel ./out/plain -KeepTied -ErrorAction Stop } | Should -Throw -ErrorId 'InvalidArgument,*'
    }
}
