<#
.SYNOPSIS
    Saves one part of a merged model, in a job of an array; complete.ps1 makes the model of all parts.
.DESCRIPTION
    Exits with 0 when the part is there, with 75 when the same command may succeed later (errors of the disk or the network), and with 65
    when what it was given must change first. Run again, it writes only what is missing.
#>
[CmdletBinding()]
param(
    [Parameter(Mandatory)] [string] $Base,
    [Parameter(Mandatory)] [string[]] $Adapter,

    # The directory of the model; beside it lies what is finished. All runs must see the same one.
    [Parameter(Mandatory)] [string] $Out,

    # A repository on the Hub (org/name) that the part is sent to: then only records lie beside the directory.
    [string] $Repository,

    # Reads a base on the Hub while it is merged, and keeps nothing of it.
    [switch] $Stream,

    # 3/16, or what the engine says.
    [string] $Part = 'env',

    # The same for all parts. There are no more parts than shards.
    [string] $MaxShardSize = '5GB',

    [string] $Method = 'merged_16bit'
)

$ErrorActionPreference = 'Stop'
try {
    if (-not (Get-Module UnslothMerge)) { Import-Module UnslothMerge }
    $hub = $Repository ? @{ PushToHub = $Repository } : @{}
    Merge-LoraModel $Base $Adapter -Stream:$Stream |
        Save-MergedModel $Out -Part $Part -Method $Method -MaxShardSize $MaxShardSize @hub
}
catch {
    [Console]::Error.WriteLine("$_")
    exit ($_.Exception.IsTransient ? 75 : 65)
}
