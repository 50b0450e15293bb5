using UnslothMerge.Formats;
using UnslothMerge.IO;
using static TorchSharp.torch;

namespace UnslothMerge.Torch.Sources;

/// <summary>Rows of plain numbers.</summary>
internal sealed class PlainRows(PlainSource source, InputFiles files, MatrixView view) : RowSource
{
    private readonly TensorReader _reader = source.Open(files, view);
    private readonly ScalarType _type = Types.Of(source.Type);

    public override Tensor Read(long row, int rows, TransferBuffers buffers)
    {
        var count = (long)rows * view.Columns;
        var stored = buffers.Take("stored", _type, count);
        _reader.Read(row, rows, stored.Bytes[..(int)(count * source.Type.Bits() / 8)]);
        buffers.Upload(stored, count);
        using var narrow = stored.OnDevice.narrow(0, 0, count);
        return narrow.to(ScalarType.Float32);
    }

    public override void Dispose() => _reader.Dispose();
}
