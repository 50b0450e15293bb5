BeforeAll {
    . "$PSScriptRoot/Session.ps1"
    Push-Location $TestDrive
    $null = Copy-Folder (Get-Base 'llama-bf16') 'base'
    $null = Copy-Folder (Get-Adapter 'lora-all-linear') 'adapter'
    $shards = Merge-LoraModel ./base ./adapter | Save-MergedModel ./out

    # The numbers of the first heat map, by the name of their tensor.
    function Get-HeatMap([string] $File) {
        $map = @{}
        foreach ($match in [regex]::Matches((Get-Content $File -Raw), 'title="([\w.]+): ([\d.E+-]+)"')) {
            $map[$match.Groups[1].Value] = [double] $match.Groups[2].Value
        }
        $map
    }
}

AfterAll { Pop-Location }

Describe 'A report' {
    It 'has the numbers of the objects, piped or measured' {
        $null = $shards | Export-MergeReport ./piped.html
        foreach ($source in './base', './adapter') {
            Get-Content ./piped.html -Raw | Should -Match ([regex]::Escape("<td>$(Convert-Path $source)</td>"))
        }
        $null = Export-MergeReport ./out ./measured.html
        foreach ($file in './piped.html', './measured.html') {
            $map = Get-HeatMap $file
            $map.Count | Should -Be 14
            foreach ($tensor in $shards.Tensors | Where-Object RelativeChange) {
                [Math]::Abs($map[$tensor.Name] / $tensor.RelativeChange - 1) | Should -BeLessThan 1e-5
            }
        }
    }

    It 'shows checks, plan, hashes and the error of quantization' {
        $four = Merge-LoraModel ./base ./adapter | Save-MergedModel ./four -Method merged_4bit -WarningAction Ignore
        $plan = Get-MergeMemoryPlan ./base ./adapter -Destination ./four
        @($plan) + $four + (Test-MergedModel ./four) | Export-MergeReport ./four ./four.html | Out-Null
        $page = Get-Content ./four.html -Raw
        $page | Should -Match 'Error of quantization'
        $page | Should -Match ([regex]::Escape("<td>$(Convert-Path ./base)</td>"))
        $page | Should -Match '<td>planned</td>'
        $page | Should -Match '<td>Untouched</td>'
        $page | Should -Match (Read-Json ./four/merge.json).adapters[0].sha256
    }

    It 'needs nothing from elsewhere, and escapes what it shows' {
        $null = Merge-LoraModel ./base ./adapter | Save-MergedModel './a<b>&c'
        $null = Export-MergeReport './a<b>&c' ./escaped.html
        $page = Get-Content ./escaped.html -Raw
        $page | Should -Match '<h1>a&lt;b&gt;&amp;c</h1>'
        $page | Should -Not -Match 'https?:|<script|@import|url\('
    }

    It 'names what was left out' {
        $null = Merge-LoraModel ./base ./adapter | ForEach-Object { if ($_.Layer -eq 0) { $_.Strength = 0 }; $_ } | Save-MergedModel ./half
        $null = Export-MergeReport ./half ./half.html
        Get-Content ./half.html -Raw | Should -Match 'Left out: the strength is 0: 7<'
        (Get-HeatMap ./half.html).Count | Should -Be 7
    }

    It 'is replaced with -Force, and nothing is left beside it' {
        'old' | Set-Content ./again.html
        (Export-MergeReport -InputObject $shards -Model ./again.html -Force).Length | Should -BeGreaterThan 1000
        Get-ChildItem -Filter again* | Should -HaveCount 1
    }

    It 'refuses what it cannot do' {
        { Export-MergeReport ./out ./piped.html } | Should -Throw -ErrorId 'DestinationExists,*'
        { Export-MergeReport ./out ./base -Force } | Should -Throw -ErrorId 'InvalidDestination,*'
        { Export-MergeReport ./out ./nowhere/x.html } | Should -Throw -ErrorId 'PathNotFound,*'
        { Export-MergeReport ./out } | Should -Throw -ErrorId 'InvalidArgument,*' -ExpectedMessage '*no file*'
        { Get-Date | Export-MergeReport ./out ./date.html } | Should -Throw -ErrorId 'InvalidArgument,*'
        $refused = { Export-MergeReport ./base ./base.html } | Should -Throw -ErrorId 'SourceNotFound,*' -PassThru
        "$refused" | Should -Not -BeLike '*-Adapter*' -Because 'it has no such parameter'
        Export-MergeReport ./out ./what.html -WhatIf | Should -BeNullOrEmpty
        './what.html' | Should -Not -Exist
    }
}
