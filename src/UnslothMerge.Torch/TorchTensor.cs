using UnslothMerge.Adapters.Terms;
using UnslothMerge.Formats;
using UnslothMerge.Formats.BitsAndBytes;
using UnslothMerge.IO;
using UnslothMerge.Planning;
using UnslothMerge.Simd;
using UnslothMerge.Torch.Sources;
using UnslothMerge.Torch.Terms;
using static TorchSharp.torch;

namespace UnslothMerge.Torch;

/// <summary>Decodes a tensor's rows, adds its deltas and rounds the sum once, on the device. Used by several workers at once.</summary>
internal sealed class TorchTensor : IDeviceTensor
{
    private readonly WriteTensor _write;
    private readonly RowSource _source;
    private readonly List<RowTerm> _terms = [];
    private readonly ScalarType _rounded;

    public TorchTensor(WriteTensor write, InputFiles files, Device device)
    {
        _write = write;
        _rounded = Types.Of(write.Sink.RoundedType!.Value);
        var (tensor, view) = (write.Tensor, write.Tensor.View);
        _source = tensor.Source switch
        {
            PlainSource plain => new PlainRows(plain, files, view),
            FourBitSource fourBit => new FourBitRows(fourBit, files, view, device),
            var other => throw new NotSupportedException($"{other.Format} has no rows on a device."),
        };
        try
        {
            foreach (var (term, _, weight) in tensor.Terms)
            {
                _terms.Add(term switch
                {
                    LowRankTerm low => new LowRankRows(low, files, weight, device),
                    MagnitudeTerm magnitude => new MagnitudeRows(magnitude, files, device),
                    var other => throw new NotSupportedException($"{other.Kind} has no rows on a device."),
                });
            }
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    /// <summary>The bytes that the sink wants for so many rows.</summary>
    public int BytesOf(int rows) => (int)_write.Sink.BytesOf(_write.Tensor.View, rows);

    /// <summary>Merges some rows and waits for them: as many bytes as the sink wants, beginning with the rounded rows.</summary>
    public TransferBuffer Merge(long row, int rows, TransferBuffers buffers, ref TileStatistics statistics)
    {
        var columns = _write.Tensor.View.Columns;
        var count = (long)rows * columns;
        var result = buffers.Take("result", _rounded, (BytesOf(rows) + _rounded.ElementSize() - 1) / _rounded.ElementSize());
        var measured = buffers.Take("statistics", ScalarType.Float64, 3);

        using var flat = _source.Read(row, rows, buffers);
        using var weight = flat.view(rows, columns);
        using var delta = zeros(rows, columns, ScalarType.Float32, buffers.Device);
        foreach (var (term, number) in _terms.Select((t, i) => (t, i)).Where(t => t.t.Changes(row, rows)))
        {
            term.Apply(weight, delta, row, rows, buffers, number);
        }

        using var rounded = result.OnDevice.narrow(0, 0, count);
        using (var sum = weight.add(delta))
        {
            rounded.copy_(sum.view(count));
        }

        Measure(measured.OnDevice, weight, delta, rounded);
        buffers.Download(result, count);
        buffers.Download(measured, 3);
        buffers.Wait();

        var figures = MemoryMarshal.Cast<byte, double>(measured.Bytes);
        statistics.WeightSquares += figures[0];
        statistics.DeltaSquares += figures[1];
        statistics.NonFinite |= figures[2] == 0;
        return result;
    }

    /// <summary>Simulates a device memory of so many elements.</summary>
    public void RequireMemory(int rows, long elements)
    {
        if ((long)rows * _write.Tensor.View.Columns > elements)
        {
            throw new DeviceMemoryException($"{rows} rows are more than {elements} elements");
        }
    }

    public void Dispose()
    {
        _source.Dispose();
        _terms.ForEach(t => t.Dispose());
    }

    private static void Measure(Tensor result, Tensor weight, Tensor delta, Tensor rounded)
    {
        using var finite = rounded.isfinite();
        using var all = finite.all().to(ScalarType.Float64);
        using var w = Squares(weight);
        using var d = Squares(delta);
        using var figures = stack([w, d, all]);
        result.copy_(figures);
    }

    // Rows in fp32, their sum in fp64: exact enough for a figure that is only shown.
    private static Tensor Squares(Tensor matrix)
    {
        using var squares = matrix.square();
        using var rows = squares.sum(1);
        return rows.sum(ScalarType.Float64);
    }
}
