# .NET keeps an assembly until the process ends, and one of each name: a session has one version of the cmdlets.
$loaded = 'UnslothMerge.PowerShell.Isolation.EngineLoader' -as [type]
if ($loaded -and $loaded.Assembly.Location -ne [IO.Path]::Join($PSScriptRoot, 'bin', 'UnslothMerge.PowerShell.dll')) {
    $place = Split-Path (Split-Path $loaded.Assembly.Location)
    $message = "UnslothMerge $($loaded.Assembly.GetName().Version.ToString(3)) of '$place' was loaded in this session, and so the one of " +
        "'$PSScriptRoot' cannot be. Start a new session for it."
    throw [Management.Automation.ErrorRecord]::new(
        [InvalidOperationException]::new($message), 'OtherVersionLoaded', 'ResourceExists', $place)
}
