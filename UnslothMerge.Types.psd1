# A module of its own: the types of another version would collide before UnslothMerge.OneVersion.psm1 can say what is wrong.
@{
    ModuleVersion     = '1.0'
    GUID              = '0d6a4c7e-93c1-4a64-8a52-6e7f0d1f6a3b'
    TypesToProcess    = @('UnslothMerge.types.ps1xml')
    FunctionsToExport = @()
    CmdletsToExport   = @()
    VariablesToExport = @()
    AliasesToExport   = @()
}
