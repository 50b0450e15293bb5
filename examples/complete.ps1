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
    [Parameter(Mandatory)] [string] $Out
)

$ErrorActionPreference = 'Stop'
try {
    if (-not (Get-Module UnslothMerge)) { Import-Module UnslothMerge }
    Complete-MergedModel $Out
}
catch {
    [Console]::Error.WriteLine("$_")
    exit ($_.Exception.IsTransient ? 75 : 65)
}
