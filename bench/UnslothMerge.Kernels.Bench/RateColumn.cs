using System.Reflection;
using BenchmarkDotNet.Columns;
using BenchmarkDotNet.Reports;
using BenchmarkDotNet.Running;

namespace UnslothMerge.Kernels.Bench;

/// <summary>The work of a benchmark per second, from its <see cref="WorkAttribute"/> and its median time.</summary>
public sealed class RateColumn(string unit) : IColumn
{
    public string Id => unit;

    public string ColumnName => unit;

    public string Legend => $"10^9 {unit[1..]} at the median time; the bytes are those of the 16-bit tensor";

    public bool AlwaysShow => true;

    public ColumnCategory Category => ColumnCategory.Custom;

    public int PriorityInCategory => 0;

    public bool IsNumeric => true;

    public UnitType UnitType => UnitType.Dimensionless;

    public bool IsAvailable(Summary summary) => true;

    public bool IsDefault(Summary summary, BenchmarkCase benchmarkCase) => false;

    public string GetValue(Summary summary, BenchmarkCase benchmarkCase) => GetValue(summary, benchmarkCase, summary.Style);

    public string GetValue(Summary summary, BenchmarkCase benchmarkCase, SummaryStyle style)
    {
        WorkAttribute? work = benchmarkCase.Descriptor.WorkloadMethod.GetCustomAttribute<WorkAttribute>();
        double? nanoseconds = summary[benchmarkCase]?.ResultStatistics?.Median;
        if (work?.Unit != unit || nanoseconds is null)
        {
            return "";
        }

        double amount = work.Amount * (work.PerRank ? (int)benchmarkCase.Parameters["Rank"] : 1);
        return (amount / nanoseconds.Value).ToString("F1", CultureInfo.InvariantCulture);
    }
}
