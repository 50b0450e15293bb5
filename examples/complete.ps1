<#
.SYNOPSIS
    Makes the model of the parts that part.ps1 has saved.
.DESCRIPTION
    Exits with 0 when the model is there, with 75 when the same command may succeed later, as when parts are missing, and with 65 when what
    it was given must change first.
#>
[CmdletBinding()]
param(
    # The directory of the model.
    [Parameter(Mandatory)] [string] $Out,

    # The repository on the Hub that the parts were sent to, or that a model on the disk is sent to.
    [string] $Repository
)

$ErrorActionPreference = 'Stop'
try {
    if (-not (Get-Module UnslothMerge)) { Import-Module UnslothMerge }
    $hub = $Repository ? @{ PushToHub = $Repository } : @{}
    Complete-MergedModel $Out @hub
}
catch {
    [Console]::Error.WriteLine("$_")
    exit ($_.Exception.IsTransient ? 75 : 65)
}
