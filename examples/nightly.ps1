<#
.SYNOPSIS
    Merges the newest adapter of a folder into a base, tests the model and writes a report; for a scheduler.
.DESCRIPTION
    The name of the newest good model is in latest.txt of the folder of models. An adapter that was merged is not merged again. Any error
    ends the script: pwsh -File then exits with 1, and latest.txt names the model before.
#>
[CmdletBinding()]
param(
    [Parameter(Mandatory)] [string] $Base,

    # A folder of adapters.
    [Parameter(Mandatory)] [string] $Adapters,

    # The folder that gets a model and a report for each adapter.
    [Parameter(Mandatory)] [string] $Models,

    # How many models are kept.
    [ValidateRange(1, 1000)] [int] $Keep = 3
)

$ErrorActionPreference = 'Stop'
if (-not (Get-Module UnslothMerge)) { Import-Module UnslothMerge }
$null = New-Item $Models -ItemType Directory -Force

$adapter = Get-ChildItem $Adapters -Directory | Where-Object { Test-Path "$_/adapter_config.json" } |
    Sort-Object LastWriteTime | Select-Object -Last 1
if (-not $adapter) { throw "There is no adapter in '$Adapters'." }
$model = Join-Path $Models $adapter.Name
$latest = Join-Path $Models latest.txt
if ((Test-Path $latest) -and (Get-Content $latest) -eq $adapter.Name) { return }

$plan = Get-MergeMemoryPlan $Base $adapter.FullName -Destination $model
if (-not $plan.Fits) { throw "The merge needs $($plan.Missing): $($plan.Advice)." }
$shards = $plan | Merge-LoraModel | Save-MergedModel $model -Force
$checks = Test-MergedModel $model -Base $Base -Adapter $adapter.FullName
@($plan) + $shards + $checks | Export-MergeReport "$model.html" -Force
$failed = @($checks | Where-Object Passed -EQ $false)
if ($failed) { throw "'$model' is wrong: $failed" }

Set-Content $latest $adapter.Name
Get-ChildItem $Models -Directory | Sort-Object LastWriteTime -Descending | Select-Object -Skip $Keep | Remove-Item -Recurse
