<#
.SYNOPSIS
    Runs a few commands in a terminal and draws what it shows as docs/session.svg. Needs `script` of util-linux.
.EXAMPLE
    dotnet run -c Release --project bench/UnslothMerge.Bench generate --out demo/base
    dotnet run -c Release --project bench/UnslothMerge.Bench adapter --out demo/adapter
    dotnet pwsh docs/session.ps1 demo
#>
[CmdletBinding()]
param(
    # The folder with base and adapter, where the commands run. The model goes to out/ there.
    [Parameter(Mandatory)] [string] $Folder,

    [string[]] $Command = @(
        'Get-LoraAdapter ./adapter'
        'Get-MergeMemoryPlan ./base ./adapter'
        'Merge-LoraModel ./base ./adapter | Save-MergedModel ./out'
        'Test-MergedModel ./out'
    ),

    [int] $Columns = 92,

    [string] $Destination = "$PSScriptRoot/session.svg"
)

$ErrorActionPreference = 'Stop'

# Of the terminal: the usual 16 colours, on a dark ground.
$Palette = '#2e3436', '#ef5350', '#6cc26c', '#d7ba7d', '#569cd6', '#c586c0', '#4ec9b0', '#d4d4d4',
    '#808080', '#f48771', '#89d185', '#e5e510', '#9cdcfe', '#d670d6', '#7fdbca', '#ffffff'
$Width, $Height, $Margin = 8.4, 19, 16

# What the terminal gets, as text with its escape sequences.
function Invoke-Terminal {
    $inner = New-TemporaryFile
    @"
Import-Module '$PSScriptRoot/../UnslothMerge.psd1'
`$ProgressPreference = 'SilentlyContinue'
Set-Location -LiteralPath '$(Convert-Path -LiteralPath $Folder)'
Remove-Item ./out -Recurse -ErrorAction Ignore
foreach (`$line in ConvertFrom-Json '$(ConvertTo-Json @($Command) -Compress)') {
    Write-Host "`$(`$PSStyle.Foreground.BrightBlack)PS>`$(`$PSStyle.Reset) `$line"
    Invoke-Expression `$line | Out-Default
}
"@ | Set-Content "$inner.ps1"
    try {
        $shell = (Get-Process -Id $PID).Path
        $run = if ((Split-Path $shell -LeafBase) -eq 'dotnet') { "dotnet pwsh" } else { "'$shell'" }
        (script -qec "stty cols $Columns rows 60; $run -NoProfile -File '$inner.ps1'" /dev/null) -join "`n"
    }
    finally { Remove-Item $inner, "$inner.ps1" }
}

# One run of characters of the same look.
function Format-Run([string] $Text, [int] $Column, [int] $Colour, [bool] $Bold) {
    if ($Text.Trim().Length -eq 0) { return }
    $at = [string]::Format([cultureinfo]::InvariantCulture, 'x="{0:0.#}" textLength="{1:0.#}"',
        $Margin + $Column * $Width, $Text.Length * $Width)
    $look = if ($Colour -ne 7) { " fill=`"$($Palette[$Colour])`"" }
    if ($Bold) { $look += ' font-weight="bold"' }
    "<tspan $at$look>$([Security.SecurityElement]::Escape($Text))</tspan>"
}
$text = (Invoke-Terminal) -creplace '\r|\e\[\?[0-9;]*[a-z]|\e[=>]|\e\][^\a]*\a|\e\[[0-9;]*[A-Za-ln-z]', ''
$colour, $bold = 7, $false
$rows = foreach ($line in ($text.Trim("`n") -replace '\n{3,}', "`n`n") -split '\n') {
    $column = 0
    -join $(foreach ($part in $line -split '(\e\[[0-9;]*m)') {
        if ($part -notmatch '^\e\[([0-9;]*)m$') {
            Format-Run $part $column $colour $bold
            $column += $part.Length
            continue
        }
        foreach ($code in $Matches[1] -split ';' | ForEach-Object { [int] $_ }) {
            switch ($code) {
                0 { $colour, $bold = 7, $false }
                1 { $bold = $true }
                22 { $bold = $false }
                39 { $colour = 7 }
                { $_ -in 30..37 } { $colour = $_ - 30 }
                { $_ -in 90..97 } { $colour = $_ - 82 }
            }
        }
    })
}

$right = $Columns * $Width + 2 * $Margin
$bottom = $rows.Count * $Height + 2 * $Margin
$y = $Margin - 5
$body = foreach ($row in $rows) {
    $y += $Height
    if ($row) { "<text y=""$y"" xml:space=""preserve"">$row</text>" }
}
@"
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 $right $bottom" width="$right" height="$bottom" role="img">
<title>A merge at the prompt of PowerShell</title>
<rect width="100%" height="100%" rx="8" fill="#1e1e1e"/>
<g font-family="ui-monospace,Menlo,Consolas,'DejaVu Sans Mono',monospace" font-size="14" fill="#d4d4d4">
$($body -join "`n")
</g>
</svg>
"@ | Set-Content -LiteralPath $Destination
Get-Item -LiteralPath $Destination
