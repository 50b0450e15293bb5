BeforeDiscovery {
    $root = Convert-Path (Join-Path $PSScriptRoot .. ..)
    # What builds, installs or imports is run by other tests; a GPU and the Hub are not everywhere.
    $elsewhere = '^(Install-PSResource|Import-Module|\$env:UNSLOTHMERGE_LIBTORCH)|-Device cuda|\borg/'
    $commands = foreach ($page in 'README.md', 'docs/saving.md', 'docs/from-unsloth.md') {
        foreach ($block in [regex]::Matches((Get-Content "$root/$page" -Raw), '(?ms)^```powershell\r?\n(.*?)^```')) {
            $code = [scriptblock]::Create($block.Groups[1].Value)
            foreach ($statement in $code.Ast.EndBlock.Statements.Extent.Text | Where-Object { $_ -notmatch $elsewhere }) {
                @{ Page = $page; Command = $statement }
            }
        }
    }
}

BeforeAll {
    . "$PSScriptRoot/Session.ps1"
    $examples = Convert-Path (Join-Path $PSScriptRoot .. .. examples)
    Push-Location $TestDrive
    $null = Copy-Folder (Get-Base 'llama-bf16') 'base'
    foreach ($name in 'adapter', 'style', 'adapters/monday') { $null = Copy-Folder (Get-Adapter 'lora-all-linear') $name }
    foreach ($name in 'bias', 'adapters/tuesday') { $null = Copy-Folder (Get-Adapter 'lora-attention') $name }
}

AfterAll { Pop-Location }

Describe '<Page>' -ForEach $commands {
    It 'shows a command that works: <Command>' {
        if ($Command -match 'Save-MergedModel') { Get-Item ./out -ErrorAction Ignore | Remove-Item -Recurse }
        elseif (-not (Test-Path ./out)) { $null = Merge-LoraModel ./base ./adapter | Save-MergedModel ./out }
        { & ([scriptblock]::Create($Command)) *> $null } | Should -Not -Throw
    }
}

Describe 'examples/nightly.ps1' {
    It 'merges the newest adapter once, and keeps the last models' {
        (Get-Item ./adapters/monday).LastWriteTime = '2026-01-05'
        (Get-Item ./adapters/tuesday).LastWriteTime = '2026-01-04'
        $night = @{ Base = './base'; Adapters = './adapters'; Models = './models'; Keep = 1 }
        (& "$examples/nightly.ps1" @night).Name | Should -Be monday.html
        Get-Content ./models/latest.txt | Should -Be monday
        & "$examples/nightly.ps1" @night | Should -BeNullOrEmpty

        (Get-Item ./adapters/tuesday).LastWriteTime = '2026-01-06'
        (Get-Item ./models/monday).LastWriteTime = '2026-01-05'
        (& "$examples/nightly.ps1" @night).Name | Should -Be tuesday.html
        Get-Content ./models/latest.txt | Should -Be tuesday
        (Get-ChildItem ./models -Directory).Name | Should -Be tuesday
        Test-MergedModel ./models/tuesday -Quiet | Should -BeTrue
    }
}

Describe 'examples/grid.ps1' {
    It 'merges with each weight' {
        $rows = & "$examples/grid.ps1" ./base ./adapter ./grid -Weight 0.5, 1
        $rows.Passed | Should -Be $true, $true
        [Math]::Abs($rows[1].MeanChange / $rows[0].MeanChange - 2) | Should -BeLessThan 1e-6
    }
}
