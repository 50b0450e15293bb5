namespace UnslothMerge.Bench.Measuring;

/// <summary>A merge to measure.</summary>
internal sealed record Merge(string Name, string Base, string Adapter, string Options = "");
