BeforeDiscovery {
    $cmdlets = 'Complete-MergedModel', 'Export-MergeRecipe', 'Export-MergeReport', 'Get-HubModel', 'Get-LoraAdapter',
        'Get-MergeMemoryPlan', 'Get-ModelTensor', 'Merge-LoraModel', 'Publish-MergedModel', 'Save-MergedModel', 'Test-MergedModel'
}

BeforeAll {
    . "$PSScriptRoot/Session.ps1"
    $module = Get-Module UnslothMerge
    $manifest = Convert-Path (Join-Path $PSScriptRoot .. .. UnslothMerge.psd1)
}

Describe 'The module' {
    It 'has a manifest in order' {
        (Test-ModuleManifest $manifest -ErrorAction Stop).Name | Should -Be 'UnslothMerge'
    }

    It 'is loaded once, from this checkout' {
        $module | Should -HaveCount 1
        $module.ModuleBase | Should -Be (Split-Path $manifest)
    }

    It 'is one of its kind in a session, and says so' {
        foreach ($version in '0.8.0', '0.9.0') {
            $copy = New-Item "$TestDrive/$version/UnslothMerge/bin" -ItemType Directory
            Copy-Item "$($module.ModuleBase)/UnslothMerge*.ps*1*" $copy.Parent.FullName
            Copy-Item "$($module.ModuleBase)/bin/UnslothMerge.PowerShell.dll" $copy.FullName
            $own = "$($copy.Parent.FullName)/UnslothMerge.psd1"
            (Get-Content $own -Raw) -replace "ModuleVersion( *)= '[^']+'", "ModuleVersion`$1= '$version'" | Set-Content $own
        }
        $job = Start-Job -ArgumentList "$TestDrive" {
            Import-Module "$args/0.8.0/UnslothMerge/UnslothMerge.psd1" -ErrorAction Stop
            Import-Module "$args/0.8.0/UnslothMerge/UnslothMerge.psd1" -Force -ErrorAction Stop
            try { Import-Module "$args/0.9.0/UnslothMerge/UnslothMerge.psd1" -ErrorAction Stop }
            catch { "$($_.FullyQualifiedErrorId -replace ',.*') $($_.CategoryInfo.Category)", "$_", $_.TargetObject }
            "$((Get-Module UnslothMerge).Version)", (Get-Command -Module UnslothMerge).Count
        }
        $said = $job | Receive-Job -Wait -AutoRemoveJob
        $said[0] | Should -Be 'OtherVersionLoaded ResourceExists'
        $said[1] | Should -BeLike '*new session*'
        $said[2] | Should -Be (Join-Path $TestDrive 0.8.0 UnslothMerge)
        $said[3..4] | Should -Be '0.8.0', $module.ExportedCmdlets.Count
    }

    It 'exports exactly its cmdlets' {
        $names = 'Complete-MergedModel', 'Export-MergeRecipe', 'Export-MergeReport', 'Get-HubModel', 'Get-LoraAdapter',
            'Get-MergeMemoryPlan', 'Get-ModelTensor', 'Merge-LoraModel', 'Publish-MergedModel', 'Save-MergedModel', 'Test-MergedModel'
        $module.ExportedCmdlets.Keys | Sort-Object | Should -Be $names
    }

    It 'exports nothing else' {
        $module.ExportedFunctions.Keys | Should -BeNullOrEmpty
        $module.ExportedAliases.Keys | Should -BeNullOrEmpty
        $module.ExportedVariables.Keys | Should -BeNullOrEmpty
    }
}

Describe '<_>' -ForEach $cmdlets {
    BeforeAll {
        $command = Get-Command $_ -ErrorAction Stop
    }

    It 'is a cmdlet of the module' {
        $command | Should -BeOfType ([Management.Automation.CmdletInfo])
        $command.ModuleName | Should -Be 'UnslothMerge'
    }

    It 'has an approved verb' {
        $command.Verb | Should -BeIn (Get-Verb).Verb
    }

    It 'says what it returns' {
        $command.OutputType | Should -Not -BeNullOrEmpty
    }
}
