<#
.SYNOPSIS
    Builds, tests, shows, measures or packages UnslothMerge.
.DESCRIPTION
    For pwsh and for the shell of this repository alike, so nothing here but the language, .NET and dotnet.
.EXAMPLE
    ./build.ps1 Test
.EXAMPLE
    dotnet run --project src/UnslothMerge.Shell -- build.ps1 Demo
.EXAMPLE
    ./build.ps1 Package -Sign { Get-ChildItem $args[0] -Recurse -Include *.dll, *.psd1, *.ps1xml | Set-AuthenticodeSignature -Certificate $certificate }
#>
[CmdletBinding()]
param(
    [Parameter(Position = 0)]
    [ValidateSet('Build', 'Test', 'Demo', 'Bench', 'Package')]
    [string] $Task = 'Build',

    # Package: where the module's folder and the .nupkg go.
    [string] $OutputPath = 'out/package',

    # Package: signs the files of the module's folder, which it is given, before they are packed.
    [scriptblock] $Sign,

    # Package: takes what the last build left in bin/, which only this kind of machine can load.
    [switch] $NoBuild
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

function Copy-One([string] $File, [string] $Folder) {
    $null = [IO.Directory]::CreateDirectory($Folder)
    [IO.File]::Copy($File, [IO.Path]::Combine($Folder, [IO.Path]::GetFileName($File)), $true)
}

function Invoke-BuildTask { Invoke-DotNet build (Resolve-RepositoryPath UnslothMerge.slnx) --nologo }

function Invoke-TestTask { Invoke-DotNet test --solution (Resolve-RepositoryPath UnslothMerge.slnx) }

# Merges a small adapter through the module, as a user would.
function Invoke-DemoTask {
    $base = Resolve-RepositoryPath tests/Fixtures/bases/llama-bf16
    $adapter = Resolve-RepositoryPath tests/Fixtures/cases/lora-all-linear/adapter
    $out = Resolve-RepositoryPath out/demo

    if (-not (Get-Module UnslothMerge)) { Import-Module (Resolve-RepositoryPath UnslothMerge.psd1) }
    Merge-LoraModel -Base $base -Adapter $adapter | Save-MergedModel -Destination $out -Force
    foreach ($file in [IO.DirectoryInfo]::new($out).EnumerateFiles()) {
        [pscustomobject]@{ Name = $file.Name; Bytes = $file.Length }
    }
}

function Invoke-BenchTask { Invoke-DotNet run -c Release --project (Resolve-RepositoryPath bench/UnslothMerge.Bench) -- compare }

# The platforms that the engine is compiled ahead for: 1.2 MB each of a package that is to have 5 at most. The others compile it as they run it, and need 0.1 s more for a first merge.
$Platforms = @('linux-x64')

# Lays the module out as Install-Module would, and packs it for a gallery. A module already there is replaced.
function Invoke-PackageTask {
    $manifest = Read-Manifest
    $output = Resolve-RepositoryPath $OutputPath
    $module = [IO.Path]::Combine($output, 'UnslothMerge', $manifest.ModuleVersion)
    if ([IO.Directory]::Exists($module)) { [IO.Directory]::Delete($module, $true) }

    if (-not $NoBuild) {
        $null = Invoke-DotNet build (Resolve-RepositoryPath src/UnslothMerge.PowerShell) -c Release --nologo '-p:CompileAhead=false'
        foreach ($platform in $Platforms) {
            $null = Invoke-DotNet publish (Resolve-RepositoryPath src/UnslothMerge.Engine) -c Release -r $platform --nologo
            Copy-One (Resolve-RepositoryPath "artifacts/publish/UnslothMerge.Engine/release_$platform/UnslothMerge.Engine.dll") "$module/bin/engine/$platform"
        }
    }

    foreach ($folder in 'bin', 'en-US') {
        $from = Resolve-RepositoryPath $folder
        if ([IO.Directory]::Exists($from)) { Copy-Tree $from ([IO.Path]::Combine($module, $folder)) }
    }

    foreach ($name in @('UnslothMerge.psd1', 'LICENSE', 'README.md') + $manifest.FormatsToProcess) { Copy-One (Resolve-RepositoryPath $name) $module }
    if ($Sign) { $null = & $Sign $module }

    $nuspec = [IO.Path]::Combine($output, 'UnslothMerge.nuspec')
    [IO.File]::WriteAllText($nuspec, (Get-Nuspec $manifest "UnslothMerge/$($manifest.ModuleVersion)"))
    $null = Invoke-DotNet pack $nuspec --output $output --verbosity quiet
    [IO.File]::Delete($nuspec)
    [IO.DirectoryInfo]::new($module)
    [IO.FileInfo]::new([IO.Path]::Combine($output, "UnslothMerge.$($manifest.ModuleVersion).nupkg"))
}

function Read-Manifest {
    $ast = [Management.Automation.Language.Parser]::ParseFile((Resolve-RepositoryPath UnslothMerge.psd1), [ref] $null, [ref] $null)
    $ast.Find({ $args[0] -is [Management.Automation.Language.HashtableAst] }, $false).SafeGetValue()
}

# What galleries of PowerShell modules ask for: the tags say that it is a module, and which commands it has.
function Get-Nuspec($Manifest, [string] $Folder) {
    $data = $Manifest.PrivateData.PSData
    $commands = $Manifest.CmdletsToExport
    $tags = @('PSModule', 'PSIncludes_Cmdlet') + $data.Tags + @(foreach ($name in $commands) { "PSCmdlet_$name"; "PSCommand_$name" })
    $text = @{ author = $Manifest.Author; description = $Manifest.Description; copyright = $Manifest.Copyright; license = $data.LicenseUri; tags = $tags -join ' ' }
    foreach ($key in @($text.Keys)) { $text[$key] = [Security.SecurityElement]::Escape($text[$key]) }
    @"
<?xml version="1.0" encoding="utf-8"?>
<package xmlns="http://schemas.microsoft.com/packaging/2011/07/nuspec.xsd">
  <metadata>
    <id>UnslothMerge</id>
    <version>$($Manifest.ModuleVersion)</version>
    <authors>$($text.author)</authors>
    <description>$($text.description)</description>
    <copyright>$($text.copyright)</copyright>
    <licenseUrl>$($text.license)</licenseUrl>
    <readme>README.md</readme>
    <tags>$($text.tags)</tags>
  </metadata>
  <files>
    <file src="$Folder/**" exclude="**/*.pdb" />
  </files>
</package>
"@
}

& "Invoke-${Task}Task"
