<#
.SYNOPSIS
    Runs every test file of this folder in this session and writes as JSON how each It ended.
.DESCRIPTION
    A list of objects with Name and Failure. Failure is empty for a test that passed, and for nothing else.
#>
[CmdletBinding()]
param(
    # The module manifest of Pester.
    [Parameter(Mandatory)] [string] $Pester,

    # The file to write.
    [Parameter(Mandatory)] [string] $Output
)

$ErrorActionPreference = 'Stop'
Import-Module $Pester

# The strictest that a user may have set.
$global:ErrorActionPreference = 'Stop'

# What a test could leave behind in the session.
function Get-SessionState {
    "location $(Get-Location)"
    foreach ($variable in Get-Variable -Scope Global -Exclude LASTEXITCODE) {
        "variable $($variable.Name)$(if ($variable.Name -like '*Preference') { " = $($variable.Value)" })"
    }
    foreach ($item in Get-ChildItem Env:) { "env:$($item.Name) = $($item.Value)" }
    foreach ($item in @(Get-PSDrive) + @(Get-ChildItem Function:)) { "$($item.GetType().Name) $($item.Name)" }
}

function New-Result([string] $Name, [string] $Failure) { [pscustomobject]@{ Name = $Name; Failure = $Failure } }

function Get-Failure($Item) {
    $errors = foreach ($record in $Item.ErrorRecord) { "$($record.DisplayErrorMessage)`n$($record.DisplayStackTrace)" }
    if ($errors) { $errors -join "`n" } else { "It was $($Item.Result), not passed." }
}

$configuration = New-PesterConfiguration
$configuration.Run.PassThru = $true
$configuration.Output.Verbosity = 'None'
$results = foreach ($file in Get-ChildItem $PSScriptRoot -Filter *.Tests.ps1) {
    $before = Get-SessionState
    $configuration.Run.Path = $file.FullName
    $run = Invoke-Pester -Configuration $configuration
    foreach ($test in $run.Tests) {
        New-Result "$($file.Name): $($test.ExpandedPath)" $(if ($test.Result -ne 'Passed') { Get-Failure $test })
    }

    # What failed outside of an It: a setup or teardown, or the file itself.
    foreach ($block in $run.FailedBlocks) { New-Result "$($file.Name): $($block.ExpandedPath)" (Get-Failure $block) }
    if ($run.FailedContainers) { New-Result $file.Name (Get-Failure $run.FailedContainers[0]) }
    elseif (-not $run.Tests) { New-Result $file.Name 'There is no test in it.' }

    $left = Compare-Object $before @(Get-SessionState) | ForEach-Object { "$($_.SideIndicator) $($_.InputObject)" }
    New-Result "$($file.Name): leaves the session as it was" ($left -join "`n")
}

ConvertTo-Json @($results) | Set-Content $Output
