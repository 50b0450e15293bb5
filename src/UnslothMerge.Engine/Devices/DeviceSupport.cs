using UnslothMerge.Adapters;
using UnslothMerge.Adapters.Terms;
using UnslothMerge.Formats.BitsAndBytes;

namespace UnslothMerge.Devices;

/// <summary>The tensors that a device can merge, and the memory that they need. The cores merge the others.</summary>
internal static class DeviceSupport
{
    /// <summary>The device memory for an element of a batch, without transfers: fp32 planes of the weight, the delta and their sum, an fp64
    /// plane for norms or the indices of codes, and the allocator's rounding.</summary>
    private const int PlaneBytes = 28;

    /// <summary>Why the cores merge a tensor; null if a device can. Copying, decoding and converting are faster on the cores than the
    /// transfers are.</summary>
    public static string? WhyNot(WriteTensor write)
    {
        var (source, terms) = (write.Tensor.Source, write.Tensor.Terms);
        return terms.Length == 0 || write.Verbatim is not null ? "no delta"
            : source is not (FourBitSource or PlainSource { Type: TensorType.F16 or TensorType.BF16 or TensorType.F32 })
                ? $"{source.Format} base"
            : write.Sink.RoundedType is null || write.Sink.SurveySet is not null ? $"{write.Sink.Format} output"
            : terms.Select(t => t.Term).FirstOrDefault(t => t is not (LowRankTerm or MagnitudeTerm { ByColumn: false })) is { } other
                ? $"{other.Kind}{(other is MagnitudeTerm ? " by column" : "")} delta"
            : null;
    }

    /// <summary>The bytes on the device while a tensor is merged, shared by all workers.</summary>
    public static long ResidentBytes(WriteTensor write) => write.Tensor.Terms.Sum(t => t.Term switch
    {
        LowRankTerm low => low.Right.Rows * low.Right.Columns * sizeof(float),
        var term => term.ResidentBytes,
    });

    /// <summary>The bytes of a batch that are copied to the device.</summary>
    public static long UploadBytes(WriteTensor write, int rows) =>
        write.Tensor.Source.BytesOf(write.Tensor.View, rows) + write.Tensor.Terms.Sum(t => LeftBytes(t.Term, rows));

    /// <summary>The bytes of a batch that are copied from the device.</summary>
    public static long DownloadBytes(WriteTensor write, int rows) =>
        (long)rows * write.Tensor.View.Columns * write.Sink.RoundedType!.Value.Bits() / 8;

    public static long BatchBytes(WriteTensor write, int rows) =>
        UploadBytes(write, rows) + DownloadBytes(write, rows) + ((long)rows * write.Tensor.View.Columns * PlaneBytes);

    /// <summary>The bytes of host memory for a batch.</summary>
    public static long HostBytes(WriteTensor write, int rows) =>
        UploadBytes(write, rows) + write.Sink.BytesOf(write.Tensor.View, rows) + write.Tensor.Terms.Sum(t => t.Term.BytesOf(rows));

    private static long LeftBytes(DeltaTerm term, int rows) =>
        term is LowRankTerm low ? Math.Min(rows, low.Left.Rows) * low.Right.Rows * sizeof(float) : 0;
}
