namespace UnslothMerge.PowerShell; internal static class Placeholder { }
