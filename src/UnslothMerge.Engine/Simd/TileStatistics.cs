namespace UnslothMerge.Simd;

/// <summary>What a merge tells about a tensor, gathered while its tiles are combined.</summary>
/// <remarks>
/// Each tile is summed in sixteen fp32 partial sums (column i goes to sum i mod 16, row after row, fused, except that a rest of less than sixteen
/// is squared and then added), which are folded pairwise in double. So the sums do not depend on the machine, only on how the tensor is cut into tiles.
/// </remarks>
public record struct TileStatistics
{
    /// <summary>Σ weight², before the merge.</summary>
    public double WeightSquares { get; set; }

    /// <summary>Σ delta².</summary>
    public double DeltaSquares { get; set; }

    /// <summary>Σ value² of what was quantized, after the merge.</summary>
    public double ValueSquares { get; set; }

    /// <summary>Σ (quantized − value)², where the output is quantized.</summary>
    public double ErrorSquares { get; set; }

    /// <summary>Some output is NaN or infinite after rounding to the output format.</summary>
    public bool NonFinite { get; set; }

    /// <summary>Adds the statistics of another part of the tensor.</summary>
    public void Add(TileStatistics other)
    {
        WeightSquares += other.WeightSquares;
        DeltaSquares += other.DeltaSquares;
        ValueSquares += other.ValueSquares;
        ErrorSquares += other.ErrorSquares;
        NonFinite |= other.NonFinite;
    }
}
