# .NET keeps an assembly until the process ends, and one of each name: a session has one version of the cmdlets. The one that is loaded
# says what is wrong with another. It is asked in few words, since a session compiles each of them on import.
$other = [AppContext]::GetData('UnslothMerge')?.Invoke($PSScriptRoot)
if ($other) { throw $other }
