# Dot-sourced by the first BeforeAll of every test file: BeforeAll { . "$PSScriptRoot/Session.ps1" }
# Gives the tests the module of this checkout, unless one is loaded already, and the folder of the fixtures.

if (-not (Get-Module UnslothMerge)) {
    Import-Module ([IO.Path]::Combine($PSScriptRoot, '..', '..', 'UnslothMerge.psd1')) -ErrorAction Stop
}

$Fixtures = [IO.Path]::GetFullPath([IO.Path]::Combine($PSScriptRoot, '..', 'Fixtures'))
