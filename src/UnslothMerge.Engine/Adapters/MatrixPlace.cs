namespace UnslothMerge.Adapters;

/// <summary>A place in a target's matrix.</summary>
/// <param name="Row">The row.</param>
/// <param name="Column">The column.</param>
internal readonly record struct MatrixPlace(long Row, int Column);
