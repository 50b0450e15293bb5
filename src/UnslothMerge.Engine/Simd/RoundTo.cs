namespace UnslothMerge.Simd;

/// <summary>A dtype that decoded values are rounded to, and widened from again.</summary>
internal enum RoundTo
{
    None,
    BFloat16,
    Half,
}
