BeforeDiscovery {
    . "$PSScriptRoot/Session.ps1"

    # What the cmdlets emit, and the objects inside.
    $emitted = (Get-Module UnslothMerge).ExportedCmdlets.Values.OutputType.Type
    $inner = $emitted.GetProperties().PropertyType | Where-Object { $_.IsArray } | ForEach-Object GetElementType
    $own = @($emitted) + @($inner) | Where-Object Namespace -EQ 'UnslothMerge.PowerShell'
    $types = $own | ForEach-Object { @{ type = $_; name = $_.Name } }
}

BeforeAll {
    . "$PSScriptRoot/Session.ps1"

    $views = [xml] (Get-Content "$((Get-Module UnslothMerge).ModuleBase)/UnslothMerge.format.ps1xml" -Raw)
    $base = Get-Base 'llama-bf16'
    $adapter = Get-Adapter 'lora-all-linear'
}

Describe 'The views of <name>' -ForEach $types {
    BeforeAll {
        $mine = $views.Configuration.ViewDefinitions.View | Where-Object { $_.ViewSelectedBy.TypeName -eq $type.FullName }
    }

    It 'are a table and a list' {
        foreach ($kind in 'TableControl', 'ListControl') {
            $mine.SelectNodes($kind).Count | Should -BeGreaterThan 0 -Because "UnslothMerge.format.ps1xml has a $kind of $name"
        }
    }

    It 'show properties that it has' {
        $properties = $type.GetProperties().Name
        foreach ($node in $mine.SelectNodes('.//PropertyName')) {
            $node.InnerText | Should -BeIn $properties
        }
        foreach ($script in $mine.SelectNodes('.//ScriptBlock').InnerText) {
            { [scriptblock]::Create($script) } | Should -Not -Throw
            # Inside a list of stages and the like $_ is one of those.
            if ($mine.SelectNodes('.//EnumerateCollection').Count -eq 0) {
                foreach ($match in [regex]::Matches($script, '\$_\.(\w+)')) { $match.Groups[1].Value | Should -BeIn $properties }
            }
        }
    }

    It 'have headings that are properties' {
        $members = @($type.GetProperties().Name) + @((Get-TypeData $type.FullName).Members.Keys)
        foreach ($label in $mine.SelectNodes('.//Label').InnerText) { $label | Should -BeIn $members }
    }

    It 'have a column for each heading' {
        foreach ($table in $mine.SelectNodes('TableControl')) {
            $table.SelectNodes('.//TableColumnItem').Count | Should -Be $table.SelectNodes('.//TableColumnHeader').Count
        }
    }
}

Describe 'What is shown' {
    It 'fits into 80 columns and reads well' {
        $plan = Get-MergeMemoryPlan $base $adapter
        $shard = Merge-LoraModel $base $adapter | Save-MergedModel "$TestDrive/out"
        $objects = (Get-ModelTensor $base), (Get-LoraAdapter $adapter), (Get-LoraAdapter $adapter -Base $base).Targets, $plan, $plan.Stages,
            (Merge-LoraModel $base $adapter), $shard, $shard.Tensors
        foreach ($object in $objects) {
            foreach ($shown in $object, ($object | Format-Table), ($object | Format-List), ($object | Format-Wide)) {
                $text = $shown | Out-String -Width 80
                $text.Trim() | Should -Not -BeNullOrEmpty
                $text -replace '\e\[[\d;]+m' -split "`r?`n" | Where-Object Length -GT 80 | Should -BeNullOrEmpty
            }
            # No view says so: Format-Wide takes the first of the properties that matter most.
            $name = (Get-TypeData $object[0].GetType().FullName).DefaultDisplayPropertySet.ReferencedProperties[0]
            ($object[0] | Format-Wide -Column 1 | Out-String -Width 400).Trim() | Should -Be $object[0].$name
        }
        ($plan | Out-String -Width 80) -replace '\e\[\d+m' | Should -Match 'Fits: yes\.'
        Get-MergeMemoryPlan $base $adapter -Method lora | Out-String -Width 80 | Should -Not -Match "tiles"
        $shard | Out-String -Width 80 | Should -Match '17\.7 kB'
        [UnslothMerge.PowerShell.Display]::Short('model.layers.0.mlp.down_proj.weight', 30) | Should -Be 'model.laye…lp.down_proj.weight'
    }
}

Describe 'Objects' {
    It 'can be read in every property' {
        $shard = Merge-LoraModel $base $adapter | Save-MergedModel "$TestDrive/read"
        $plan = Get-MergeMemoryPlan $base $adapter
        $lora = Get-LoraAdapter $adapter -Base $base
        $objects = @(Get-ModelTensor $base) + @(Merge-LoraModel $base $adapter) + $lora + $lora.Targets +
            $plan + $plan.Stages + $shard + $shard.Tensors
        foreach ($object in $objects) {
            foreach ($property in $object.psobject.Properties) { $null = $property.Value }
            "$object" | Should -Not -BeLike 'UnslothMerge.*' -Because 'an object is shown by its name where there is no view'
        }
    }

    It 'become flat JSON and CSV' {
        $shard = Merge-LoraModel $base $adapter | Save-MergedModel "$TestDrive/flat"
        $tensors = $shard.Tensors | ConvertTo-Json -WarningVariable cut | ConvertFrom-Json
        $cut | Should -BeNullOrEmpty
        $tensors[0].Shape.Text | Should -Be '43x20'
        ($shard | ConvertTo-Json -Depth 2 -WarningAction SilentlyContinue | ConvertFrom-Json).Tensors | Should -HaveCount 21
        ($shard.Tensors | ConvertTo-Csv | ConvertFrom-Csv)[3].RelativeChange -as [double] | Should -BeGreaterThan 0
        (Get-MergeMemoryPlan $base $adapter | ConvertTo-Json -Depth 2 | ConvertFrom-Json).Stages[-1].Stage | Should -Be 'Total'
    }
}
