<#
.SYNOPSIS
    Builds, tests, shows, measures or packages UnslothMerge.
.DESCRIPTION
    For pwsh and for the shell of this repository alike, so nothing here but the language, .NET and dotnet.
.EXAMPLE
    ./build.ps1 Test
.EXAMPLE
    dotnet run --project src/UnslothMerge.Shell -- build.ps1 Demo
#>
[CmdletBinding()]
param(
    [Parameter(Position = 0)]
    [ValidateSet('Build', 'Test', 'Demo', 'Bench', 'Package')]
    [string] $Task = 'Build'
)

$ErrorActionPreference = 'Stop'

function Invoke-DotNet {
    & dotnet @args
    if ($LASTEXITCODE -ne 0) { throw "dotnet $($args[0]) failed with exit code $LASTEXITCODE." }
}

function Resolve-RepositoryPath([string] $Path) { [IO.Path]::GetFullPath([IO.Path]::Combine($PSScriptRoot, $Path)) }

function Copy-Tree([string] $From, [string] $To) {
    foreach ($file in [IO.Directory]::EnumerateFiles($From, '*', 'AllDirectories')) {
        $target = [IO.Path]::Combine($To, [IO.Path]::GetRelativePath($From, $file))
        $null = [IO.Directory]::CreateDirectory([IO.Path]::GetDirectoryName($target))
        [IO.File]::Copy($file, $target, $true)
    }
}

function Start-Build { Invoke-DotNet build (Resolve-RepositoryPath UnslothMerge.slnx) --nologo }

function Start-Test { Invoke-DotNet test --solution (Resolve-RepositoryPath UnslothMerge.slnx) }

# Merges a small adapter through the module, as a user would.
function Start-Demo {
    $base = Resolve-RepositoryPath tests/Fixtures/bases/llama-bf16
    $adapter = Resolve-RepositoryPath tests/Fixtures/cases/lora-all-linear/adapter
    $out = Resolve-RepositoryPath out/demo

    if (-not (Get-Module UnslothMerge)) { Import-Module (Resolve-RepositoryPath UnslothMerge.psd1) }
    Merge-LoraModel -Base $base -Adapter $adapter | Save-MergedModel -Destination $out -Force
    foreach ($file in [IO.DirectoryInfo]::new($out).EnumerateFiles()) {
        [pscustomobject]@{ Name = $file.Name; Bytes = $file.Length }
    }
}

function Start-Bench { Invoke-DotNet run -c Release --project (Resolve-RepositoryPath bench/UnslothMerge.Bench) -- compare }

# Puts the module into out/package as Install-Module would lay it out. A module already there is replaced.
function Start-Package {
    Invoke-DotNet build (Resolve-RepositoryPath src/UnslothMerge.PowerShell) -c Release --nologo
    $manifest = Resolve-RepositoryPath UnslothMerge.psd1
    if ([IO.File]::ReadAllText($manifest) -notmatch "ModuleVersion\s*=\s*'([^']+)'") { throw "No ModuleVersion in $manifest." }
    $package = Resolve-RepositoryPath "out/package/UnslothMerge/$($Matches[1])"
    if ([IO.Directory]::Exists($package)) { [IO.Directory]::Delete($package, $true) }

    Copy-Tree (Resolve-RepositoryPath bin) ([IO.Path]::Combine($package, 'bin'))
    $views = [IO.Directory]::EnumerateFiles($PSScriptRoot, '*.format.ps1xml')
    foreach ($file in @($manifest; Resolve-RepositoryPath LICENSE; Resolve-RepositoryPath README.md; $views)) {
        if ([IO.File]::Exists($file)) { [IO.File]::Copy($file, [IO.Path]::Combine($package, [IO.Path]::GetFileName($file))) }
    }

    $help = Resolve-RepositoryPath en-US
    if ([IO.Directory]::Exists($help)) { Copy-Tree $help ([IO.Path]::Combine($package, 'en-US')) }
    $package
}

& "Start-$Task"
