namespace UnslothMerge.Bench.Measuring;

/// <summary>A merge to measure.</summary>
/// <param name="Name">What the table calls it.</param>
/// <param name="Base">The model.</param>
/// <param name="Adapter">The adapter.</param>
/// <param name="Options">Further parameters of Save-MergedModel.</param>
internal sealed record Merge(string Name, string Base, string Adapter, string Options = "");
