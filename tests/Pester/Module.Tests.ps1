BeforeDiscovery {
    $cmdlets = 'Get-LoraAdapter', 'Get-MergeMemoryPlan', 'Get-ModelTensor', 'Merge-LoraModel', 'Save-MergedModel', 'Test-MergedModel'
}

BeforeAll {
    . "$PSScriptRoot/Session.ps1"
    $module = Get-Module UnslothMerge
    $manifest = [IO.Path]::GetFullPath([IO.Path]::Combine($PSScriptRoot, '..', '..', 'UnslothMerge.psd1'))
}

Describe 'The module' {
    It 'has a manifest in order' {
        (Test-ModuleManifest $manifest -ErrorAction Stop).Name | Should -Be 'UnslothMerge'
    }

    It 'is loaded once, from this checkout' {
        $module | Should -HaveCount 1
        $module.ModuleBase | Should -Be ([IO.Path]::GetDirectoryName($manifest))
    }

    It 'exports exactly its cmdlets' {
        $names = [string[]] $module.ExportedCmdlets.Keys
        [Array]::Sort($names, [StringComparer]::Ordinal)
        $names | Should -Be 'Get-LoraAdapter', 'Get-MergeMemoryPlan', 'Get-ModelTensor', 'Merge-LoraModel', 'Save-MergedModel', 'Test-MergedModel'
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
        # Get-Verb is not everywhere; these classes are what it lists.
        $approved = foreach ($group in 'Common', 'Communications', 'Data', 'Diagnostic', 'Lifecycle', 'Other', 'Security') {
            ([type] "System.Management.Automation.Verbs$group").GetFields().Name
        }
        $command.Verb | Should -BeIn $approved
    }

    It 'says what it returns' {
        $command.OutputType | Should -Not -BeNullOrEmpty
    }
}
