using UnslothMerge.Adapters;
using UnslothMerge.Adapters.Terms;
using UnslothMerge.Formats;
using UnslothMerge.Formats.BitsAndBytes;
using UnslothMerge.Planning;

namespace UnslothMerge.Devices;

/// <summary>Which tensors a device merges, and what they need there. The others stay with the cores.</summary>
internal static class DeviceSupport
{
    /// <summary>What a batch takes for each of its elements beside what goes up and comes down: fp32 planes of the weight, the delta and
    /// their sum, an fp64 plane for norms or the indices of codes, and what the allocator rounds up.</summary>
    private const int PlaneBytes = 28;

    /// <summary>Why a tensor stays with the cores; null if a device can merge it. Copies, and what is only decoded or converted, cost more
    /// on the bus than at home.</summary>
    public static string? WhyNot(WriteTensor write)
    {
        var (source, terms) = (write.Tensor.Source, write.Tensor.Terms);
        return terms.Length == 0 || write.Verbatim is not null ? "no delta"
            : source is not (FourBitSource or PlainSource { Type: TensorType.F16 or TensorType.BF16 or TensorType.F32 })
                ? $"{source.Format} base"
            : write.Sink.RoundedType is null ? $"{write.Sink.Format} output"
            : terms.Select(t => t.Term).FirstOrDefault(t => t is not (LowRankTerm or MagnitudeTerm { ByColumn: false })) is { } other
                ? $"{other.Kind}{(other is MagnitudeTerm ? " by column" : "")} delta"
            : null;
    }

    /// <summary>The bytes on the device while a tensor is in work, shared by all lanes.</summary>
    public static long ResidentBytes(WriteTensor write) => write.Tensor.Terms.Sum(t => t.Term switch
    {
        LowRankTerm low => low.Right.Rows * low.Right.Columns * sizeof(float),
        var term => term.ResidentBytes,
    });

    /// <summary>The bytes that go up for a batch.</summary>
    public static long UpBytes(WriteTensor write, int rows) =>
        write.Tensor.Source.BytesOf(write.Tensor.View, rows) + write.Tensor.Terms.Sum(t => LeftBytes(t.Term, rows));

    /// <summary>The bytes that come down for a batch.</summary>
    public static long DownBytes(WriteTensor write, int rows) =>
        (long)rows * write.Tensor.View.Columns * write.Sink.RoundedType!.Value.Bits() / 8;

    public static long BatchBytes(WriteTensor write, int rows) =>
        UpBytes(write, rows) + DownBytes(write, rows) + ((long)rows * write.Tensor.View.Columns * PlaneBytes);

    /// <summary>The bytes of host memory for a batch.</summary>
    public static long HostBytes(WriteTensor write, int rows) =>
        UpBytes(write, rows) + write.Sink.BytesOf(write.Tensor.View, rows) + write.Tensor.Terms.Sum(t => t.Term.BytesOf(rows));

    private static long LeftBytes(DeltaTerm term, int rows) =>
        term is LowRankTerm low ? Math.Min(rows, low.Left.Rows) * low.Right.Rows * sizeof(float) : 0;
}
