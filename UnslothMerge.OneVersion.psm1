# .NET keeps an assembly until the process ends, and one of each name: a session has one version of the cmdlets.
# To look for a type by its name would cost a third of the import.
$loaded = [AppDomain]::CurrentDomain.GetData('UnslothMerge')
if ($loaded -and $loaded.Location -ne [IO.Path]::Join($PSScriptRoot, 'bin', 'UnslothMerge.PowerShell.dll')) {
    $place = Split-Path (Split-Path $loaded.Location)
    $message = "UnslothMerge $($loaded.GetName().Version.ToString(3)) of '$place' was loaded in this session, and so the one of " +
        "'$PSScriptRoot' cannot be. Start a new session for it."
    throw [Management.Automation.ErrorRecord]::new(
        [InvalidOperationException]::new($message), 'OtherVersionLoaded', 'ResourceExists', $place)
}
