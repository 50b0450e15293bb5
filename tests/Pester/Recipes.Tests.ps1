BeforeAll {
    . "$PSScriptRoot/Session.ps1"

    # The commands below a heading of about_UnslothMerge_Recipes, run as they stand there.
    function Invoke-Recipe([string] $Heading) {
        $lines = Get-Content "$((Get-Module UnslothMerge).ModuleBase)/en-US/about_UnslothMerge_Recipes.help.txt"
        $start = [Array]::IndexOf($lines, "  $Heading")
        if ($start -lt 0) { throw "There is no recipe '$Heading'." }
        $code = foreach ($line in $lines[($start + 1)..($lines.Count - 1)]) {
            if ($line -match '^ {0,2}\S') { break }
            if ($line.StartsWith('        ')) { $line }
        }
        & ([scriptblock]::Create($code -join "`n"))
    }

    function Get-Change($Shard, [string] $Name) { ($Shard.Tensors | Where-Object Name -Like $Name).RelativeChange }

    Push-Location $TestDrive
    $null = Copy-Folder (Get-Base 'llama-bf16') 'base'
    $null = Copy-Folder (Get-Adapter 'lora-all-linear') 'adapter'
    $null = Copy-Folder (Get-Adapter 'lora-all-linear') 'adapters/style'
    $null = Copy-Folder (Get-Adapter 'lora-attention') 'adapters/facts'
    $whole = Merge-LoraModel ./base ./adapter | Save-MergedModel ./whole
}

AfterAll { Pop-Location }

Describe 'The recipe for' {
    It 'a merge in a file' {
        $text = Get-Content "$((Get-Module UnslothMerge).ModuleBase)/en-US/about_UnslothMerge_Recipes.help.txt" -Raw
        [regex]::Match($text, '(?ms)^    base: .*?^    output: .*?$').Value -replace '(?m)^    ' | Set-Content ./recipe.yml
        $shards, $file = Invoke-Recipe 'A MERGE IN A FILE'
        @(Get-Change $shards *attn*) | Where-Object { $_ } | Should -BeNullOrEmpty
        foreach ($case in @{ Layer = 0; Share = 0.8 * 0.2 }, @{ Layer = 1; Share = 0.8 }) {
            $name = "model.layers.$($case.Layer).mlp.up_proj.weight"
            [Math]::Abs((Get-Change $shards $name) / (Get-Change $whole $name) - $case.Share) | Should -BeLessThan 1e-6
        }
        $file.Name | Should -Be mine.yml
    }

    It 'a strength for each layer' {
        $graded = Invoke-Recipe 'A STRENGTH FOR EACH LAYER'
        foreach ($layer in 0, 1) {
            $name = "model.layers.$layer.mlp.down_proj.weight"
            $ratio = (Get-Change $graded $name) / (Get-Change $whole $name)
            [Math]::Abs($ratio - (1 + 2 * $layer) / 3) | Should -BeLessThan 1e-6
        }
    }

    It 'attention only' {
        $attention = Invoke-Recipe 'ATTENTION ONLY'
        Get-Change $attention *.0.self_attn.q_proj.weight | Should -Be (Get-Change $whole *.0.self_attn.q_proj.weight)
        @(Get-Change $attention *.mlp.*) | Where-Object { $_ } | Should -BeNullOrEmpty
        @(Get-ModelTensor ./out/attention) | Should -HaveCount 21
    }

    It 'two adapters, one on top of the other' {
        $stacked = Invoke-Recipe 'TWO ADAPTERS, ONE ON TOP OF THE OTHER'
        $facts = Merge-LoraModel ./base ./adapters/facts | Save-MergedModel ./facts
        Get-Change $stacked *.1.mlp.up_proj.weight | Should -Be (Get-Change $whole *.1.mlp.up_proj.weight)
        $ratio = (Get-Change $stacked *.1.self_attn.v_proj.weight) / (Get-Change $facts *.1.self_attn.v_proj.weight)
        [Math]::Abs($ratio - 0.4) | Should -BeLessThan 1e-6
    }

    It 'a grid of weights' {
        Invoke-Recipe 'A GRID OF WEIGHTS' | Should -HaveCount 4
        foreach ($name in 'style0.5-facts0.25', 'style0.5-facts0.5', 'style1-facts0.25', 'style1-facts0.5') {
            "./out/$name/model.safetensors" | Should -Exist
        }
    }

    It 'a table of the largest changes' {
        Invoke-Recipe 'A TABLE OF THE LARGEST CHANGES'
        $rows = Import-Csv ./changes.csv
        $rows | Should -HaveCount 14
        [double] $rows[0].RelativeChange | Should -BeGreaterOrEqual ([double] $rows[13].RelativeChange)
        $rows[0].Shape | Should -Match '^\d+x\d+$'
    }

    It 'every adapter of a folder' {
        $null = Copy-Folder (Get-Adapter 'refuse-shape') 'adapters/misfit'
        $ErrorActionPreference = 'Continue' # The recipe goes on after an adapter that does not fit.
        $shards = Invoke-Recipe 'EVERY ADAPTER OF A FOLDER, EACH INTO ITS OWN MODEL' 2>&1
        ($shards | Where-Object { $_ -isnot [Management.Automation.ErrorRecord] }).Path | Should -HaveCount 2
        "$($shards | Where-Object { $_ -is [Management.Automation.ErrorRecord] })" | Should -Match '^misfit: .*does not fit'
        './out/style/model.safetensors' | Should -Exist
        './out/facts/model.safetensors' | Should -Exist
        './out/misfit' | Should -Not -Exist
    }
}
