namespace UnslothMerge; internal static class Placeholder { }
