@{
    RootModule           = 'bin/UnslothMerge.PowerShell.dll'
    ModuleVersion        = '0.1.0'
    GUID                 = '5b0f7c0e-6a53-4d0b-9d0e-2f1c9b1a7e64'
    Author               = 'UnslothMerge contributors'
    CompanyName          = 'UnslothMerge'
    Copyright            = '(c) UnslothMerge contributors. MIT License.'
    Description          = 'Merges LoRA adapters into model checkpoints: streaming, exact, without Python.'
    CompatiblePSEditions = @('Core')
    PowerShellVersion    = '7.6'
    CmdletsToExport      = @(
        'Complete-MergedModel', 'Export-MergeRecipe', 'Export-MergeReport', 'Get-HubModel', 'Get-LoraAdapter', 'Get-MergeMemoryPlan',
        'Get-ModelTensor', 'Merge-LoraModel', 'Publish-MergedModel', 'Save-MergedModel', 'Test-MergedModel'
    )
    FormatsToProcess     = @('UnslothMerge.format.ps1xml')
    NestedModules        = @('UnslothMerge.OneVersion.psm1', 'UnslothMerge.Types.psd1')
    FunctionsToExport    = @()
    AliasesToExport      = @()
    VariablesToExport    = @()
    PrivateData          = @{
        PSData = @{
            Tags         = @('LoRA', 'PEFT', 'Unsloth', 'safetensors', 'merge', 'LLM', 'PSEdition_Core')
            LicenseUri   = 'https://opensource.org/license/mit'
            ReleaseNotes = 'The first version: plan, merge, save and test models. CHANGELOG.md of the repository lists every change.'
        }
    }
}
