BeforeDiscovery {
    $cmdlets = 'Export-MergeRecipe', 'Export-MergeReport', 'Get-HubModel', 'Get-LoraAdapter', 'Get-MergeMemoryPlan', 'Get-ModelTensor',
        'Merge-LoraModel', 'Publish-MergedModel', 'Save-MergedModel', 'Test-MergedModel'
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

    It 'exports exactly its cmdlets' {
        $names = 'Export-MergeRecipe', 'Export-MergeReport', 'Get-HubModel', 'Get-LoraAdapter', 'Get-MergeMemoryPlan',
            'Get-ModelTensor', 'Merge-LoraModel', 'Publish-MergedModel', 'Save-MergedModel', 'Test-MergedModel'
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
