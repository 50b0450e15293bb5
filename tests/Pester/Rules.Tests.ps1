# What PSScriptAnalyzer asks of scripts, asked of the compiled cmdlets; and what a user may expect of every parameter.
BeforeDiscovery {
    . "$PSScriptRoot/Session.ps1"

    $cmdlets = foreach ($command in (Get-Module UnslothMerge).ExportedCmdlets.Values) { @{ name = $command.Name; command = $command } }
}

BeforeAll {
    . "$PSScriptRoot/Session.ps1"

    # Beside the models, where Test-MergedModel finds them.
    $base = Copy-Folder (Get-Base 'llama-bf16') 'base'
    $adapter = Copy-Folder (Get-Adapter 'lora-all-linear') 'adapter'
    $common = @([Management.Automation.Cmdlet]::CommonParameters) + @([Management.Automation.Cmdlet]::OptionalCommonParameters)

    function Get-OwnParameter($Command) { $Command.Parameters.Values | Where-Object Name -NotIn $common }
}

Describe 'The rules of <name>' -ForEach $cmdlets {
    BeforeAll {
        $own = Get-OwnParameter $command
        $instance = [Activator]::CreateInstance($command.ImplementingType)
    }

    It 'its name is a verb and a singular noun, and nobody else has it' {
        $name | Should -Match '^[A-Z][a-z]+-([A-Z][a-z]+)+$'
        $command.Noun | Should -Not -Match 's$'
        @(Get-Command $name -All).Count | Should -Be 1
    }

    It 'asks before it changes something, and only then' {
        $changes = $command.Verb -notin 'Get', 'Test'
        $command.Parameters.ContainsKey('WhatIf') | Should -Be $changes
        $command.Parameters.ContainsKey('Confirm') | Should -Be $changes
    }

    It 'its parameters have names of their own, and their aliases, too' {
        $names = @($own.Name) + @($own.Aliases)
        $names | Should -Not -BeNullOrEmpty
        $names | Where-Object { $_ -in $common } | Should -BeNullOrEmpty
        $names | Group-Object | Where-Object Count -GT 1 | Should -BeNullOrEmpty
        $own.Name | Where-Object { $_ -cnotmatch '^[A-Z][A-Za-z]+$' } | Should -BeNullOrEmpty
    }

    It 'its switches are off, and what is mandatory has no value yet' {
        foreach ($parameter in $own) {
            $value = $instance.($parameter.Name)
            if ($parameter.SwitchParameter) { [bool] $value | Should -BeFalse -Because $parameter.Name }
            if ($parameter.ParameterSets.Values.IsMandatory -eq $true) { "$value" | Should -BeNullOrEmpty -Because $parameter.Name }
        }
    }

    It 'takes secrets as SecureString' {
        $secret = $own | Where-Object Name -Match 'Token$|Password|Secret|Key$|Credential'
        $secret | Where-Object ParameterType -NE ([securestring]) | Should -BeNullOrEmpty
    }

    It 'each of its parameter sets has distinct positions, and few ways in from the pipeline' {
        foreach ($set in $command.ParameterSets) {
            $set.Parameters | Where-Object Position -GE 0 | Group-Object Position | Where-Object Count -GT 1 |
                Should -BeNullOrEmpty -Because $set.Name
            $byValue = @($set.Parameters | Where-Object ValueFromPipeline)
            # A path may come by value beside objects that have one.
            $byValue.Count | Should -BeLessOrEqual 2 -Because $set.Name
        }
        if ($command.ParameterSets.Count -gt 1) { $command.DefaultParameterSet | Should -Not -BeNullOrEmpty }
    }

    It 'completes numbers, places, choices' {
        $completed = $own | Where-Object { $_.Attributes.Where({ $_ -is [ArgumentCompleter] }) }
        $places = 'Base', 'Adapter', 'LiteralPath', 'Destination', 'Tokenizer', 'TemporaryLocation'
        $needed = $own | Where-Object {
            $type = $_.ParameterType.IsArray ? $_.ParameterType.GetElementType() : $_.ParameterType
            $type = [Nullable]::GetUnderlyingType($type) ?? $type
            $_.Name -in $places -or ($type -in [int], [long], [double] -and $_.Name -notin 'Seed', 'PartCount')
        }
        $needed.Name | Where-Object { $_ -notin $completed.Name } | Should -BeNullOrEmpty

        # PowerShell completes those by itself, without tips.
        $own | Where-Object { $_.ParameterType.IsEnum -or $_.Attributes.Where({ $_ -is [ValidateSet] }) } | Should -BeNullOrEmpty
    }
}

Describe 'What is emitted' {
    It 'is what <name> declares' -ForEach @(
        @{ name = 'Get-LoraAdapter'; run = { Get-LoraAdapter $adapter -Base $base } }
        @{ name = 'Get-ModelTensor'; run = { Get-ModelTensor $base } }
        @{ name = 'Get-MergeMemoryPlan'; run = { Get-MergeMemoryPlan $base $adapter } }
        @{ name = 'Merge-LoraModel'; run = { Merge-LoraModel $base $adapter; Merge-LoraModel $base $adapter "$TestDrive/one" } }
        @{ name = 'Save-MergedModel'; run = { Merge-LoraModel $base $adapter | Save-MergedModel "$TestDrive/two" } }
        @{ name = 'Test-MergedModel'; run = { 'one', 'two' | ForEach-Object { Test-MergedModel "$TestDrive/$_" -Quiet:($_ -eq 'one') } } }
        @{ name = 'Export-MergeReport'; run = { Export-MergeReport "$TestDrive/two" "$TestDrive/two.html" } }
        @{ name = 'Export-MergeRecipe'; run = { Merge-LoraModel $base $adapter | Export-MergeRecipe "$TestDrive/two.yml" } }
        @{
            name = 'Complete-MergedModel'
            run  = {
                $null = Merge-LoraModel $base $adapter | Save-MergedModel "$TestDrive/3" -Part 1/1
                Complete-MergedModel "$TestDrive/3"
            }
        }
    ) {
        $declared = (Get-Command $name).OutputType.Name
        $emitted = @(& $run | ForEach-Object { $_.GetType().FullName } | Sort-Object -Unique)
        $emitted | Should -Not -BeNullOrEmpty
        $emitted | Where-Object { $_ -notin $declared } | Should -BeNullOrEmpty
        if ($declared -notcontains 'UnslothMerge.PowerShell.PublishedModel') { $emitted | Should -Be @($declared | Sort-Object) }
    }

    It 'is a file as Get-Item shows it' {
        $file = Merge-LoraModel $base $adapter | Export-MergeRecipe "$TestDrive/shown.yml"
        $file.PSPath | Should -Be (Get-Item "$TestDrive/shown.yml").PSPath
        $file | Out-String -Width 80 | Should -Be (Get-Item "$TestDrive/shown.yml" | Out-String -Width 80)
    }
}

Describe 'The manifest' {
    BeforeAll {
        $data = Import-PowerShellDataFile "$((Get-Module UnslothMerge).ModuleBase)/UnslothMerge.psd1"
    }

    It 'names what it exports, without wildcards' {
        foreach ($field in 'CmdletsToExport', 'FunctionsToExport', 'AliasesToExport', 'VariablesToExport') {
            $data.ContainsKey($field) | Should -BeTrue -Because $field
            $data[$field] | Where-Object { $_ -match '[*?\[]' } | Should -BeNullOrEmpty -Because $field
        }
    }

    It 'says what a gallery shows' {
        foreach ($field in 'ModuleVersion', 'GUID', 'Author', 'Description', 'Copyright', 'PowerShellVersion', 'CompatiblePSEditions') {
            $data[$field] | Should -Not -BeNullOrEmpty -Because $field
        }
        foreach ($field in 'Tags', 'LicenseUri', 'ReleaseNotes') { $data.PrivateData.PSData[$field] | Should -Not -BeNullOrEmpty }
    }
}
