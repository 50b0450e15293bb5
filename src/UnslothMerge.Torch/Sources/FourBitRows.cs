using UnslothMerge.Formats;
using UnslothMerge.Formats.BitsAndBytes;
using UnslothMerge.IO;
using static TorchSharp.torch;

namespace UnslothMerge.Torch.Sources;

/// <summary>Rows of NF4 or FP4: uploads two codes a byte and the blocks' scales, and computes code · absmax, rounded to the dtype of the
/// original weight.</summary>
internal sealed class FourBitRows : RowSource
{
    private readonly FourBitSource _source;
    private readonly MatrixView _view;
    private readonly TensorReader _reader;
    private readonly Tensor _pairs;

    public FourBitRows(FourBitSource source, InputFiles files, MatrixView view, Device device)
    {
        (_source, _view) = (source, view);
        _reader = source.Open(files, view);
        var map = source.MapOf(files);

        // The two values of every byte: high nibble first.
        _pairs = tensor([.. Enumerable.Range(0, 256).SelectMany(b => new[] { map[b >> 4], map[b & 15] })], [256, 2], device: device)
            .DetachFromDisposeScope();
    }

    public override Tensor Read(long row, int rows, TransferBuffers buffers)
    {
        var extent = _source.ExtentOf(_view, row, rows);
        var block = _source.BlockSize;
        var bytes = (long)extent.Blocks * block / 2;
        var stored = buffers.Take("stored", ScalarType.Byte, Math.Max(bytes, _source.BytesOf(_view, rows)));
        var scales = buffers.Take("scales", ScalarType.Float32, extent.Blocks);
        _reader.Read(row, rows, stored.Bytes[..(int)_source.BytesOf(_view, rows)]);
        extent.AbsMaxOf(stored.Bytes).CopyTo(MemoryMarshal.Cast<byte, float>(scales.Bytes));
        buffers.Upload(stored, bytes);
        buffers.Upload(scales, extent.Blocks);

        using var codes = stored.OnDevice.narrow(0, 0, bytes);
        using var indices = codes.to(ScalarType.Int32);
        using var values = _pairs.index_select(0, indices);
        using var blocks = values.view(extent.Blocks, block);
        using var absMax = scales.OnDevice.narrow(0, 0, extent.Blocks);
        blocks.mul_(absMax.unsqueeze(1));

        // The batch may begin within a block, and the last block may be short.
        var skip = (row * _view.Columns) - (extent.FirstByte * 2);
        using var mine = blocks.view(-1).narrow(0, skip, (long)rows * _view.Columns);
        if (_source.Type == TensorType.F32)
        {
            return mine.alias();
        }

        using var rounded = mine.to(Types.Of(_source.Type));
        return rounded.to(ScalarType.Float32);
    }

    public override void Dispose()
    {
        _reader.Dispose();
        _pairs.Dispose();
    }
}
