# .NET keeps an assembly until the process ends, and one of each name: a session has one version of the cmdlets. The one that is loaded
# refuses another. It is asked in one expression, since a session compiles what is here on import.
[AppContext]::GetData('UnslothMerge')?.Invoke($PSScriptRoot)
