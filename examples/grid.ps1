<#
.SYNOPSIS
    Merges an adapter with several weights, tests each model, and emits a row for each.
.EXAMPLE
    ./grid.ps1 ./base ./adapter ./grid -Weight 0.5, 0.75, 1 | Export-Csv ./grid.csv
#>
[CmdletBinding()]
param(
    [Parameter(Mandatory)] [string] $Base,
    [Parameter(Mandatory)] [string] $Adapter,
    [Parameter(Mandatory)] [string] $Models,
    [double[]] $Weight = (0.25, 0.5, 0.75, 1)
)

$ErrorActionPreference = 'Stop'
if (-not (Get-Module UnslothMerge)) { Import-Module UnslothMerge }
foreach ($factor in $Weight) {
    $model = Join-Path $Models ('weight-{0}' -f $factor.ToString([cultureinfo]::InvariantCulture))
    $shards = Merge-LoraModel $Base $Adapter -Weight $factor | Save-MergedModel $model -Force
    $change = $shards.Tensors.RelativeChange | Where-Object { $null -ne $_ } | Measure-Object -Average -Maximum
    [pscustomobject]@{
        Weight = $factor
        Model = $model
        MeanChange = $change.Average
        LargestChange = $change.Maximum
        Passed = Test-MergedModel $model -Base $Base -Adapter $Adapter -Weight $factor -Quiet
    }
}
