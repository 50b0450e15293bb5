BeforeAll {
    . "$PSScriptRoot/Session.ps1"

    $base = Get-Base 'llama-bf16'
    $adapter = Get-Adapter 'lora-all-linear'
    $other = Get-Adapter 'lora-attention'
    $out = Join-Path $TestDrive 'out'
    $null = Merge-LoraModel $base $adapter | Save-MergedModel $out
}

Describe 'Testing a saved model' {
    It 'takes the recipe from the pipeline' {
        $checks = Merge-LoraModel $base $adapter | Test-MergedModel $out
        $checks[0] | Should -BeOfType ([UnslothMerge.PowerShell.ModelCheck])
        @($checks | Where-Object Passed -ne $true) | Should -HaveCount 0
        $checks.Check | Should -Contain 'Merged'
        ($checks | Where-Object Check -eq 'Merged').WorstUlps | Should -BeLessThan 1
    }

    It 'takes the recipe from parameters' {
        @(Test-MergedModel $out -Base $base -Adapter $adapter -Full | Where-Object Passed -ne $true) | Should -HaveCount 0
    }

    It 'takes the model from what was saved, once for all its shards' {
        $sharded = Join-Path $TestDrive 'sharded'
        $checks = Merge-LoraModel $base $adapter |
            Save-MergedModel $sharded -MaxShardSize 5KB | Test-MergedModel -Base $base -Adapter $adapter
        @($checks | Where-Object Check -eq 'Index') | Should -HaveCount 1
        @($checks | Where-Object Passed -ne $true) | Should -HaveCount 0
        $checks[0].Path | Should -Be $sharded
    }

    It 'answers with one boolean' {
        Test-MergedModel $out -Base $base -Adapter $adapter -Quiet | Should -BeTrue
        Test-MergedModel $out -Base $base -Adapter $other -Quiet | Should -BeFalse
        @(Merge-LoraModel $base $adapter | Test-MergedModel $out -Quiet) | Should -HaveCount 1
    }

    It 'says what is wrong with another adapter' {
        $merged = Test-MergedModel $out -Base $base -Adapter $other | Where-Object Check -eq 'Merged'
        $merged.Passed | Should -BeFalse
        $merged.Tensors | Should -Not -BeNullOrEmpty
    }

    It 'knows strengths, weights and several adapters' {
        $half = Join-Path $TestDrive 'half'
        $tensors = Merge-LoraModel $base $adapter -Weight 0.7 | Merge-LoraModel -Adapter $other -Weight -0.3
        $tensors | Where-Object Layer -EQ 0 | ForEach-Object { $_.Strength = 0.5 }
        $null = $tensors | Save-MergedModel $half
        $tensors | Test-MergedModel $half -Full -Quiet | Should -BeTrue
        Test-MergedModel $half -Base $base -Adapter $adapter, $other -Weight 0.7, -0.3 -Quiet | Should -BeFalse
    }

    It 'knows <_>' -ForEach 'ties', 'dare_linear', 'dare_ties', 'magnitude_prune' {
        $combined = Join-Path $TestDrive $_
        $recipe = @{ Base = $base; Adapter = $adapter, $other; CombinationType = $_; Density = 0.5; Seed = 7 }
        $null = Merge-LoraModel @recipe | Save-MergedModel $combined
        Test-MergedModel $combined @recipe -Full -Quiet | Should -BeTrue
        $recipe.Density = 0.6
        Test-MergedModel $combined @recipe -Full -Quiet | Should -BeFalse
    }

    It 'looks only at the tensors that come' {
        $part = Join-Path $TestDrive 'part'
        $null = Merge-LoraModel $base $adapter | Where-Object Layer -EQ 0 | Save-MergedModel $part -AllowPartial
        Merge-LoraModel $base $adapter | Where-Object Layer -EQ 0 | Test-MergedModel $part -Quiet | Should -BeTrue
        Merge-LoraModel $base $adapter | Test-MergedModel $part -Quiet | Should -BeFalse
        Merge-LoraModel $base $adapter | Where-Object Layer -EQ 0 | Test-MergedModel $out -Quiet | Should -BeTrue
    }

    It 'tests 4 bits' {
        $four = Join-Path $TestDrive 'four'
        $null = Merge-LoraModel $base $adapter | Save-MergedModel $four -Method merged_4bit -WarningAction SilentlyContinue
        Test-MergedModel $four -Base $base -Adapter $adapter -Full -Quiet | Should -BeTrue
    }

    It 'finds one flipped byte' {
        $flipped = Join-Path $TestDrive 'flipped'
        $null = Merge-LoraModel $base $adapter | Save-MergedModel $flipped
        $file = Join-Path $flipped 'model.safetensors'
        $bytes = Get-Content $file -AsByteStream -Raw
        $bytes[$bytes.Length - 1] = $bytes[$bytes.Length - 1] -bxor 0x55
        Set-Content $file $bytes -AsByteStream
        Test-MergedModel $flipped -Base $base -Adapter $adapter -Full -Quiet | Should -BeFalse
    }

    It 'fits 80 columns' {
        $lines = (Test-MergedModel $out -Base $base -Adapter $adapter | Out-String -Width 80) -split "`n"
        @($lines | Where-Object { $_.TrimEnd().Length -gt 80 }) | Should -HaveCount 0
        $lines[1] | Should -Match 'Check\s+Passed\s+Detail'
    }
}

Describe 'Mistakes' {
    It 'wants a base that can be found' {
        { Test-MergedModel $out } | Should -Throw -ErrorId 'SourceNotFound,*'
    }

    It 'wants a directory' {
        $nowhere = Join-Path $TestDrive 'nowhere'
        { Test-MergedModel $nowhere -Base $base -Adapter $adapter -ErrorAction Stop } | Should -Throw -ErrorId 'PathNotFound,*'
        Test-MergedModel $nowhere -Base $base -Adapter $adapter -Quiet -ErrorAction SilentlyContinue | Should -BeFalse
    }

    It 'tells an adapter from a model' {
        $saved = Join-Path $TestDrive 'lora'
        $null = Merge-LoraModel $base $adapter | Save-MergedModel $saved -Method lora
        { Test-MergedModel $saved -Base $base -Adapter $adapter -ErrorAction Stop } |
            Should -Throw '*is an adapter*' -ErrorId 'InvalidModel,*'
    }

    It 'leaves what is planned to the plan' {
        { Merge-LoraModel $base $adapter | Test-MergedModel $out -KeepTied } | Should -Throw -ErrorId 'InvalidArgument,*'
    }
}
