<#
.SYNOPSIS
    Builds, tests, shows, measures, documents or packages UnslothMerge.
.EXAMPLE
    ./build.ps1 Test
.EXAMPLE
    dotnet pwsh build.ps1 Demo
.EXAMPLE
    ./build.ps1 Package -Sign { Get-ChildItem $args[0] -Recurse -Include *.dll, *.ps*1* | Set-AuthenticodeSignature -Certificate $mine }
#>
[CmdletBinding()]
param(
    [Parameter(Position = 0)]
    [ValidateSet('Build', 'Test', 'Demo', 'Bench', 'Gpu', 'Arm64', 'Faults', 'Cluster', 'Docs', 'Package')]
    [string] $Task = 'Build',

    # Gpu: makes out/unslothmerge-gpu.tar.gz, which checks the GPU of a Linux machine that has neither SDK nor network.
    [switch] $Archive,

    # Package: where the module's folder and the .nupkg go.
    [string] $OutputPath = (Join-Path $PSScriptRoot out package),

    # Package: signs the files of the module's folder, which it is given, before they are packed.
    [scriptblock] $Sign,

    # Package: takes what the last build left in bin/, which only this kind of machine can load.
    [switch] $NoBuild
)

$ErrorActionPreference = 'Stop'
$PSNativeCommandUseErrorActionPreference = $true

function Invoke-BuildTask { dotnet build "$PSScriptRoot/UnslothMerge.slnx" --nologo }

function Invoke-TestTask { dotnet test --solution "$PSScriptRoot/UnslothMerge.slnx" }

# Merges a small adapter through the module, as a user would.
function Invoke-DemoTask {
    $fixtures = Join-Path $PSScriptRoot tests Fixtures
    if (-not (Get-Module UnslothMerge)) { Import-Module "$PSScriptRoot/UnslothMerge.psd1" }
    Merge-LoraModel "$fixtures/bases/llama-bf16" "$fixtures/cases/lora-all-linear/adapter" |
        Save-MergedModel "$PSScriptRoot/out/demo" -Force
}

function Invoke-BenchTask { dotnet run -c Release --project "$PSScriptRoot/bench/UnslothMerge.Bench" }

# Checks merges on this machine's GPU, or packs what does so elsewhere: unpack it and run gpu-check.sh.
function Invoke-GpuTask {
    $project = "$PSScriptRoot/tests/UnslothMerge.Gpu"
    if (-not $Archive) {
        $env:UNSLOTHMERGE_LIBTORCH ??= python3 -c "import torch; print(torch.__path__[0] + '/lib')"
        return dotnet run -c Release --project $project
    }

    $folder = New-Item "$PSScriptRoot/out/gpu" -ItemType Directory -Force
    Remove-Item "$folder/*" -Recurse
    dotnet publish $project -c Release -r linux-x64 --self-contained -o $folder/bin --nologo | Out-Null
    Copy-Item "$PSScriptRoot/UnslothMerge.psd1", $project/gpu-check.sh $folder
    $null = New-Item "$folder/tests" -ItemType Directory
    Copy-Item "$PSScriptRoot/tests/Fixtures" "$folder/tests" -Recurse
    tar czf "$PSScriptRoot/out/unslothmerge-gpu.tar.gz" "--exclude=*.pdb" "--exclude=libmscord*" -C $folder .
    Get-Item "$PSScriptRoot/out/unslothmerge-gpu.tar.gz"
}

# Runs kernels and goldens on an emulated arm64.
function Invoke-Arm64Task {
    $qemu = Get-Command qemu-aarch64, qemu-aarch64-static -ErrorAction Ignore | Select-Object -First 1
    if (-not $qemu) { return Write-Warning 'Arm64 is skipped: qemu-aarch64 is not installed (Debian: qemu-user).' }
    try { $env:QEMU_LD_PREFIX ??= Get-Arm64Libraries }
    catch {
        return Write-Warning ('Arm64 is skipped: set QEMU_LD_PREFIX to a folder with libc, libstdc++ and OpenSSL for arm64; ' +
            "Debian's could not be had: $_")
    }

    $folder = "$PSScriptRoot/artifacts/arm64"
    dotnet publish "$PSScriptRoot/tests/UnslothMerge.Tests" -r linux-arm64 --self-contained -p:CompileAhead=false -o $folder --nologo

    # What qemu cannot do: pages that are written and executed under two addresses, and code that changes while it runs.
    $env:DOTNET_EnableWriteXorExecute = $env:DOTNET_gcConcurrent = $env:DOTNET_TieredCompilation = '0'
    $env:DOTNET_SYSTEM_GLOBALIZATION_INVARIANT = '1'
    $passed = 0
    foreach ($filter in @('--filter-namespace', 'UnslothMerge.Tests.Simd'), @('--filter-class', '*.GoldenTests')) {
        & $qemu "$folder/UnslothMerge.Tests" @filter | Tee-Object -Variable lines
        $passed += [int]($lines -match '^\s*succeeded: \d+' -replace '\D')[-1]
    }
    "$passed tests passed on arm64."
}

# Debian's libraries of an arm64, in a folder of their own with its own lists of packages: nothing is installed.
function Get-Arm64Libraries {
    $folder = "$PSScriptRoot/artifacts/arm64-libraries"
    if (-not (Test-Path "$folder/root/lib/ld-linux-aarch64.so.1")) {
        $null = New-Item "$folder/lists/partial", "$folder/archives/partial" -ItemType Directory -Force
        $null = New-Item "$folder/status" -ItemType File -Force
        $apt = "Dir::State=$folder", "Dir::State::status=$folder/status", "Dir::Cache=$folder", 'APT::Architecture=arm64',
            'APT::Architectures=arm64', 'APT::Sandbox::User=root' | ForEach-Object { '-o', $_ }
        $null = apt-get @apt -qq update
        $null = apt-get @apt -qq -y --no-install-recommends --download-only install libstdc++6 '^libssl3(t64)?$'
        Get-ChildItem "$folder/archives/*.deb" | ForEach-Object { dpkg-deb -x $_ "$folder/root" }
    }
    "$folder/root"
}

# Kills saves, fills their disk, and lets their system calls fail, from outside: some minutes. See tests/faults.
function Invoke-FaultsTask { Invoke-BuildTask; & "$PSScriptRoot/tests/faults/Faults.ps1" }

# Runs the example for Slurm on a cluster of this machine.
function Invoke-ClusterTask { Invoke-BuildTask; & "$PSScriptRoot/tests/cluster/Slurm.ps1" }

# Copies the cmdlets' pages, which a build writes beside its other output, to docs/.
function Invoke-DocsTask {
    dotnet build "$PSScriptRoot/src/UnslothMerge.PowerShell" --nologo
    Copy-Item "$PSScriptRoot/artifacts/docs/*.md" (New-Item "$PSScriptRoot/docs/cmdlets" -ItemType Directory -Force).FullName
}

# The platforms that the engine is compiled ahead for: 1.2 MB each of a package that is to have 6 at most.
# The others compile it as they run it, and need 0.1 s more for a first merge.
$Platforms = @('linux-x64')

# Lays the module out as Install-Module would, and packs it for a gallery. A module already there is replaced.
function Invoke-PackageTask {
    $manifest = Import-PowerShellDataFile "$PSScriptRoot/UnslothMerge.psd1"
    $output = (New-Item $OutputPath -ItemType Directory -Force).FullName
    $module = Join-Path $output UnslothMerge $manifest.ModuleVersion
    if (Test-Path -LiteralPath $module) { Remove-Item -LiteralPath $module -Recurse }
    $null = New-Item $module -ItemType Directory

    if (-not $NoBuild) {
        $null = dotnet build "$PSScriptRoot/src/UnslothMerge.PowerShell" -c Release --nologo '-p:CompileAhead=false'
    }

    $files = @('bin', 'en-US', 'UnslothMerge.psd1', 'LICENSE', 'README.md') + $manifest.FormatsToProcess +
        $manifest.NestedModules + 'UnslothMerge.types.ps1xml'
    $files | ForEach-Object { Copy-Item "$PSScriptRoot/$_" $module -Recurse }

    if (-not $NoBuild) {
        foreach ($platform in $Platforms) {
            $null = dotnet publish "$PSScriptRoot/src/UnslothMerge.Engine" -c Release -r $platform --nologo
            $folder = New-Item "$module/bin/engine/$platform" -ItemType Directory -Force
            Copy-Item "$PSScriptRoot/artifacts/publish/UnslothMerge.Engine/release_$platform/UnslothMerge.Engine.dll" $folder.FullName
        }
    }

    if ($Sign) { $null = & $Sign $module }

    $nuspec = Join-Path $output UnslothMerge.nuspec
    Get-Nuspec $manifest "UnslothMerge/$($manifest.ModuleVersion)" | Set-Content -LiteralPath $nuspec

    # A module has no assemblies in lib/, which is what NU5100 asks for. Any other warning is an error.
    $packed = dotnet pack $nuspec --output $output -p:NoWarn=NU5100
    if ($packed -match '\[Warning\]|warning NU') { throw ($packed -join "`n") }
    Remove-Item -LiteralPath $nuspec
    Get-Item -LiteralPath $module, (Join-Path $output "UnslothMerge.$($manifest.ModuleVersion).nupkg")
}

# What galleries of PowerShell modules ask for: the tags say that it is a module, and which commands it has.
function Get-Nuspec($Manifest, [string] $Folder) {
    $data = $Manifest.PrivateData.PSData
    $commands = $Manifest.CmdletsToExport
    $tags = @('PSModule', 'PSIncludes_Cmdlet') + $data.Tags + @(foreach ($name in $commands) { "PSCmdlet_$name"; "PSCommand_$name" })
    $text = @{
        author = $Manifest.Author; description = $Manifest.Description; copyright = $Manifest.Copyright
        notes = $data.ReleaseNotes; tags = $tags -join ' '
    }
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
    <license type="expression">MIT</license>
    <readme>README.md</readme>
    <releaseNotes>$($text.notes)</releaseNotes>
    <tags>$($text.tags)</tags>
  </metadata>
  <files>
    <file src="$Folder/**" exclude="**/*.pdb" />
  </files>
</package>
"@
}

& "Invoke-${Task}Task"
