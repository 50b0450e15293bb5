namespace UnslothMerge.Formats.Quantized;

/// <summary>How scales cover a matrix: each serves a block of rows and columns. Blocks at the edges may be smaller. Several matrices
/// stacked on top of each other (experts) are covered one by one.</summary>
internal sealed record ScaleBlocks(long MatrixRows, long BlockRows, int BlockColumns, int Columns)
{
    private long RowsPerMatrix => (MatrixRows + BlockRows - 1) / BlockRows;

    /// <summary>The row of scales that a row of the (stacked) matrix uses.</summary>
    public long RowOf(long row) => (row / MatrixRows * RowsPerMatrix) + (row % MatrixRows / BlockRows);

    /// <summary>The rows from one on that use the same scales.</summary>
    public long RowsFrom(long row) => Math.Min(BlockRows - (row % MatrixRows % BlockRows), MatrixRows - (row % MatrixRows));

    /// <summary>Pieces of so many rows hold whole blocks; <paramref name="rows"/> are those of all matrices.</summary>
    public long Quantum(long rows) => rows > MatrixRows && MatrixRows % BlockRows != 0 ? MatrixRows : Math.Min(BlockRows, MatrixRows);
}
