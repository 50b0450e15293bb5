BeforeDiscovery {
    $lines = @(
        @{ line = 'Merge-LoraModel '; offers = './models/llama', "'./models/o''clock'", 'org/tiny', './models', './runs' }
        @{ line = 'Merge-LoraModel -Base ll'; offers = './models/llama' }
        @{ line = "Merge-LoraModel './models/o"; offers = "'./models/o''clock'" }
        @{ line = 'Merge-LoraModel ru'; offers = './runs' }
        @{ line = 'Merge-LoraModel ./models/llama '; offers = "'./runs/check [1]'", 'me/style', './models', './runs' }
        @{ line = 'Merge-LoraModel ./models/llama ./x, ch'; offers = "'./runs/check [1]'" }
        @{ line = 'Get-MergeMemoryPlan org/t'; offers = 'org/tiny' }
        @{ line = 'Get-LoraAdapter '; offers = "'./runs/check [1]'", 'me/style', './models', './runs' }
        @{ line = 'Get-LoraAdapter x -Base models/l'; offers = 'models/llama' }
        @{ line = 'Get-ModelTensor models/'; offers = 'models/llama', "'models/o''clock'" }
        @{ line = 'Save-MergedModel mod'; offers = './models' }
        @{ line = 'Save-MergedModel ./'; offers = './models', './runs' }
        @{ line = 'Save-MergedModel x -Tokenizer models/l'; offers = 'models/llama' }
        @{ line = 'Save-MergedModel x -TemporaryLocation ru'; offers = './runs' }
        @{ line = 'Save-MergedModel x -MaxShardSize 5'; offers = '5GB', '50GB' }
        @{ line = 'Save-MergedModel x -MaximumMemoryUsage 0.'; offers = '0.75', '0.95' }
        @{ line = 'Merge-LoraModel x y -Weight 0'; offers = '0.5', '0.7' }
        @{ line = 'Merge-LoraModel x y -Density 0.2'; offers = '0.2' }
        @{ line = 'Save-MergedModel x -BlockSize 1'; offers = '128' }
        @{
            line   = 'Get-ModelTensor ./models/llama -Name q_'
            offers = '*.self_attn.q_proj.*', 'model.layers.0.self_attn.q_proj.weight', 'model.layers.1.self_attn.q_proj.weight'
        }
        @{ line = 'Get-HubModel '; offers = 'me/style', 'org/tiny' }
        @{ line = 'Get-HubModel tin'; offers = 'org/tiny' }
        @{ line = 'Get-ModelTensor org/tiny lm_'; offers = 'lm_head.weight' }
        @{ line = 'Get-ModelTensor ./runs -Name x'; offers = @() }
        @{ line = 'Save-MergedModel out -Method merged_4'; offers = 'merged_4bit' }
        @{ line = 'Save-MergedModel out -DType bf'; offers = 'bfloat16', 'BF16' }
        @{ line = 'Get-MergeMemoryPlan x y -Strategy '; offers = 'block', 'channel' }
        @{ line = 'Save-MergedModel out -GroupSize '; offers = '128', '64', '32' }
        @{ line = 'Test-MergedModel x y z -MoeOrientation '; offers = 'InFirst', 'InLast' }
        @{ line = 'Merge-LoraModel -CombinationType dare'; offers = 'dare_linear', 'dare_ties' }
    )
}

BeforeAll {
    . "$PSScriptRoot/Session.ps1"

    $cache = $env:HF_HUB_CACHE
    $offline = $env:HF_HUB_OFFLINE
    $env:HF_HUB_CACHE = Join-Path $TestDrive '.hub'
    $env:HF_HUB_OFFLINE = '1'
    $null = Copy-Folder (Get-Base 'llama-bf16') 'models/llama'
    $null = Copy-Folder (Get-Base 'llama-bf16') 'models/o''clock'
    $null = Copy-Folder (Get-Adapter 'lora-all-linear') 'runs/check [1]'
    $tiny = Copy-Folder (Get-Base 'llama-bf16') '.hub/models--org--tiny/snapshots/abc'
    $null = Copy-Folder (Get-Base 'llama-fp16') '.hub/models--org--tiny/snapshots/old'
    $null = New-Item "$TestDrive/.hub/models--org--tiny/refs/main" -Value 'abc' -Force
    $style = Copy-Folder (Get-Adapter 'lora-all-linear') '.hub/models--me--style/snapshots/d1'

    Push-Location $TestDrive
}

AfterAll {
    Pop-Location
    $env:HF_HUB_CACHE = $cache
    $env:HF_HUB_OFFLINE = $offline
}

Describe 'Completion' {
    It 'of "<line>"' -ForEach $lines {
        @((TabExpansion2 $line $line.Length).CompletionMatches.CompletionText | Where-Object { $_ }) | Should -Be $offers
    }
}

Describe 'A tip' {
    It 'of a value says what it means' {
        $line = 'Save-MergedModel x -MaxShardSize 5G'
        (TabExpansion2 $line $line.Length).CompletionMatches[0].ToolTip | Should -BeLike 'The default*'
    }

    It 'of each value of a parameter is its description: <_>' -ForEach @(
        'Merge-LoraModel x y -CombinationType ', 'Merge-LoraModel x y -MoeOrientation ', 'Merge-LoraModel x y -MoeLoraLayout '
        'Save-MergedModel x -Method ', 'Merge-LoraModel x y -SaveMethod ', 'Export-MergeRecipe x -Method ', 'Save-MergedModel x -DType '
        'Save-MergedModel x -ComputeDType ', 'Save-MergedModel x -QuantType ', 'Get-MergeMemoryPlan x -Strategy '
        'Save-MergedModel x -Device ', 'Save-MergedModel x -ThrottleLimit ', 'Save-MergedModel x -GroupSize '
    ) {
        $offers = (TabExpansion2 $_ $_.Length).CompletionMatches
        $offers.Count | Should -BeGreaterThan 1
        foreach ($offer in $offers) { $offer.ToolTip | Should -Not -Be $offer.CompletionText -Because 'a tip says more than the value' }
        $help = Get-Help ($_ -split ' ')[0] -Parameter ($_ -split '-')[-1].Trim().Replace('SaveMethod', 'Method')
        $described = @($help.description.Text.Trim()) -match '^- ' -replace '^- '
        if ($described) { $described | Should -Be $offers.ForEach({ "$($_.CompletionText): $($_.ToolTip.TrimEnd('.'))." }) }
    }

    It 'of a model or an adapter says what lies there, as far as that can be read' {
        (TabExpansion2 'Merge-LoraModel ./models/ll' 27).CompletionMatches[0].ToolTip |
            Should -Be "LlamaForCausalLM: $(Join-Path $TestDrive models llama)"
        (TabExpansion2 'Get-HubModel me' 15).CompletionMatches[0].ToolTip |
            Should -Be "LORA, rank 5, trained on org/llama-bf16: $style"
        $broken = New-Item "$TestDrive/broken/adapter_config.json" -Value '{ "r": ' -Force
        try {
            (TabExpansion2 'Get-LoraAdapter bro' 19).CompletionMatches[0].ToolTip | Should -Be $broken.DirectoryName
        }
        finally { $broken.Directory.Delete($true) }
    }

    It 'of a directory is its path, and it can be gone into' {
        $match = (TabExpansion2 'Save-MergedModel mod' 20).CompletionMatches[0]
        $match.ToolTip | Should -Be (Join-Path $TestDrive 'models')
        $match.ResultType | Should -Be 'ProviderContainer'
        (TabExpansion2 'Save-MergedModel /et' 20).CompletionMatches.CompletionText | Should -Contain '/etc'
        $below = New-Item (Join-Path $HOME ".unslothmerge-$PID") -ItemType Directory
        try { (TabExpansion2 'Save-MergedModel ~/.unslo' 25).CompletionMatches.CompletionText | Should -Contain "~/$($below.Name)" }
        finally { $below.Delete() }
    }
}

Describe 'The local Hugging Face cache' {
    It 'is where a name of an adapter or a model leads' {
        $adapter = Get-LoraAdapter me/style -Base org/tiny
        $adapter.Path | Should -Be $style
        $adapter.Name | Should -Be 'me/style'
        (Get-ModelTensor org/tiny lm_head.weight).Path | Should -Be (Join-Path $tiny 'model.safetensors')
        (Get-MergeMemoryPlan org/tiny me/style).Adapter | Should -Be $style
    }

    It 'is told of where it cannot be read' {
        $lock = [IO.File]::Open("$TestDrive/.hub/models--org--tiny/refs/main", 'Open', 'ReadWrite', 'None')
        try {
            $failure = { Get-ModelTensor org/tiny -ErrorAction Stop } | Should -Throw '*main*' -ErrorId 'FileNotAccessible,*' -PassThru
            $failure.CategoryInfo.Category | Should -Be 'ReadError'
            "$failure" | Should -Not -BeNullOrEmpty
            @((TabExpansion2 'Get-ModelTensor org/t' 21).CompletionMatches) | Should -HaveCount 0
        }
        finally {
            $lock.Dispose()
        }
    }

    It 'comes after a folder of that name' {
        $own = Copy-Folder (Get-Base 'llama-bf16') 'org/tiny'
        (Get-ModelTensor org/tiny lm_head.weight).Path | Should -Be (Join-Path $own 'model.safetensors')
    }

    It 'is told of where a name is not in it' {
        $failure = { Merge-LoraModel org/missing me/style } | Should -Throw '*org/missing*' -ErrorId 'HubNotFound,*' -PassThru
        "$failure" | Should -Match 'HF_HUB_OFFLINE'
    }
}
