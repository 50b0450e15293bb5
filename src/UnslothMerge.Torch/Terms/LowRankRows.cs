using UnslothMerge.Adapters;
using UnslothMerge.Adapters.Terms;
using UnslothMerge.IO;
using static TorchSharp.torch;

namespace UnslothMerge.Torch.Terms;

/// <summary>Δ = left · right: the right factor stays on the device, rows of the left one are uploaded with every batch.</summary>
internal sealed class LowRankRows : RowTerm
{
    private const int PieceBytes = 4 * 1024 * 1024;

    private readonly LowRankTerm _term;
    private readonly InputFiles _files;
    private readonly double _scale;
    private readonly MatrixPlace _place;
    private readonly int _rank;
    private readonly Tensor _right;

    public LowRankRows(LowRankTerm term, InputFiles files, double weight, Device device)
    {
        (_term, _files, _scale) = (term, files, term.Scaling * weight);
        _place = term.Place ?? default;
        _rank = (int)term.Right.Rows;
        _right = empty(_rank, term.Right.Columns, ScalarType.Float32, device).DetachFromDisposeScope();
        try
        {
            Load();
        }
        catch
        {
            _right.Dispose();
            throw;
        }
    }

    public override bool Changes(long row, int rows) => _term.Changes(row, rows);

    public override void Apply(Tensor weight, Tensor delta, long row, int rows, TransferBuffers buffers, int number)
    {
        var first = Math.Max(row, _place.Row);
        var count = (int)(Math.Min(row + rows, _place.Row + _term.Left.Rows) - first);
        var values = (long)count * _rank;
        var factor = buffers.Take($"left {number}", ScalarType.Float32, values);
        _term.Left.ReadRows(_files, first - _place.Row, count, _scale, MemoryMarshal.Cast<byte, float>(factor.Bytes),
            new byte[_term.Left.ScratchBytes(count)]);
        buffers.Upload(factor, values);

        using var flat = factor.OnDevice.narrow(0, 0, values);
        using var left = flat.view(count, _rank);
        using var mine = delta.narrow(0, first - row, count);
        using var part = mine.narrow(1, _place.Column, _term.Right.Columns);
        part.addmm_(left, _right);
    }

    public override void Dispose() => _right.Dispose();

    private void Load()
    {
        var columns = _term.Right.Columns;
        var rows = (int)Math.Clamp(PieceBytes / (columns * sizeof(float)), 1, _rank);
        using var piece = empty(rows, columns, ScalarType.Float32);
        var scratch = new byte[_term.Right.ScratchBytes(rows)];
        for (var first = 0; first < _rank; first += rows)
        {
            var count = Math.Min(rows, _rank - first);
            _term.Right.ReadRows(_files, first, count, 1, MemoryMarshal.Cast<byte, float>(piece.bytes), scratch);
            using var from = piece.narrow(0, 0, count);
            using var to = _right.narrow(0, first, count);
            to.copy_(from);
        }
    }
}
