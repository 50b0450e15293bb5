namespace UnslothMerge.Simd;

/// <summary>Norms and errors of a tensor, summed while its tiles are combined.</summary>
/// <remarks>
/// A tile has sixteen fp32 partial sums (column i goes to sum i mod 16, row after row, fused; a rest of less than sixteen is squared and
/// then added), which are added pairwise in double. So the sums depend on the tiles, but not on the machine.
/// </remarks>
internal record struct TileStatistics
{
    /// <summary>Σ weight², before the merge.</summary>
    public double WeightSquares { get; set; }

    public double DeltaSquares { get; set; }

    /// <summary>Σ value² after the merge, where the output is quantized.</summary>
    public double ValueSquares { get; set; }

    /// <summary>Σ (quantized − value)², where the output is quantized.</summary>
    public double ErrorSquares { get; set; }

    /// <summary>⟨Q(W+Δ) − Q(W), Δ⟩, where the output is quantized and this was measured.</summary>
    public double KeptDelta { get; set; }

    /// <summary>‖Δ‖² of what <see cref="KeptDelta"/> was measured of.</summary>
    public double MeasuredDelta { get; set; }

    /// <summary>True if some output is NaN or infinite after rounding to the output format.</summary>
    public bool NonFinite { get; set; }

    /// <summary>Adds the statistics of another part of the tensor.</summary>
    public void Add(TileStatistics other)
    {
        WeightSquares += other.WeightSquares;
        DeltaSquares += other.DeltaSquares;
        ValueSquares += other.ValueSquares;
        ErrorSquares += other.ErrorSquares;
        KeptDelta += other.KeptDelta;
        MeasuredDelta += other.MeasuredDelta;
        NonFinite |= other.NonFinite;
    }
}
