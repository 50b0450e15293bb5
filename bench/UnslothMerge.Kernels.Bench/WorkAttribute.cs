namespace UnslothMerge.Kernels.Bench;

/// <summary>What one call of a benchmark does, for its rate.</summary>
/// <param name="unit">"GB/s" or "GFLOP/s".</param>
/// <param name="amount">Bytes or floating-point operations per call.</param>
/// <param name="perRank">The amount is to be multiplied by the parameter Rank.</param>
[AttributeUsage(AttributeTargets.Method)]
public sealed class WorkAttribute(string unit, double amount, bool perRank = false) : Attribute
{
    public string Unit => unit;

    public double Amount => amount;

    public bool PerRank => perRank;
}
