namespace UnslothMerge.Adapters;

/// <summary>A place in a target's matrix.</summary>
internal readonly record struct MatrixPlace(long Row, int Column);
