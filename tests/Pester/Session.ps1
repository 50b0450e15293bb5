# Dot-sourced by the first BeforeAll of every test file: BeforeAll { . "$PSScriptRoot/Session.ps1" }
# Gives the tests the module of this checkout, unless one is loaded already, and the folder of the fixtures.

if (-not (Get-Module UnslothMerge)) {
    Import-Module (Join-Path $PSScriptRoot .. .. UnslothMerge.psd1) -ErrorAction Stop
}

$Fixtures = Convert-Path (Join-Path $PSScriptRoot .. Fixtures)

function Get-Base([string] $Name) { Join-Path $Fixtures bases $Name }

function Get-Adapter([string] $Case, [string] $Name = 'adapter') { Join-Path $Fixtures cases $Case $Name }

# Copies the files of a folder to a new one in $TestDrive, and gives its path.
function Copy-Folder([string] $From, [string] $Name) {
    $to = New-Item (Join-Path $TestDrive $Name) -ItemType Directory -Force
    Get-ChildItem -LiteralPath $From -File | Copy-Item -Destination $to.FullName
    $to.FullName
}

function Read-Json([string] $Path) { Get-Content -LiteralPath $Path -Raw | ConvertFrom-Json }
