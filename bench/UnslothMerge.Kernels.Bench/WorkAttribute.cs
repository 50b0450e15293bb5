namespace UnslothMerge.Kernels.Bench;

/// <summary>What one call of a benchmark does, for its rate: bytes or floating-point operations, times the parameter Rank if so.</summary>
[AttributeUsage(AttributeTargets.Method)]
public sealed class WorkAttribute(string unit, double amount, bool perRank = false) : Attribute
{
    public string Unit => unit;

    public double Amount => amount;

    public bool PerRank => perRank;
}
