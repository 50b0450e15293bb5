using UnslothMerge.Adapters.Terms;

namespace UnslothMerge.Planning;

/// <summary>
/// Compares values while a merge is planned. Each comparison reads both sides piece by piece and ends at the first piece that differs, so
/// only what really is the same is read to its end.
/// </summary>
internal static class SameValues
{
    private const int PieceBytes = 1 << 20;

    /// <summary>
    /// True if a stored tensor holds a source's values, rounded to its own dtype. PEFT saves the weight of every adapted embedding and
    /// head; taking it for a replacement would forbid weights and combinations, and would spread the dtype that it was saved in.
    /// </summary>
    public static bool IsCopy(TensorSource source, StoredTensor saved)
    {
        if (!source.Shape.SequenceEqual(saved.Shape) || !source.Type.IsPlainFloat() || !saved.Type.IsPlainFloat()
            || saved.Type == TensorType.F64)
        {
            return false;
        }

        var view = MatrixView.Of(saved.Shape);
        var rows = Math.Max(1, PieceBytes / sizeof(float) / Math.Max(view.Columns, 1) / source.RowQuantum) * source.RowQuantum;
        var values = new float[rows * view.Columns];
        var stored = new byte[source.BytesOf(view, rows)];
        var (mine, rounded) = (new byte[values.Length * saved.Type.Bits() / 8], new byte[values.Length * saved.Type.Bits() / 8]);
        using var files = new InputFiles();
        using var reader = source.Open(files, view);
        for (var row = 0L; row < view.Rows; row += rows)
        {
            var count = (int)Math.Min(rows, view.Rows - row);
            var tile = new Tile(values.AsSpan(0, count * view.Columns), default, row, count, 0, view.Columns);
            var bytes = tile.Weight.Length * saved.Type.Bits() / 8;
            reader.Read(row, count, stored.AsSpan(0, (int)source.BytesOf(view, count)));
            reader.Decode(stored.AsSpan(0, (int)source.BytesOf(view, count)), row, count, tile);
            PlainFormat.Round(saved.Type, tile.Weight, rounded.AsSpan(0, bytes));
            files.Read(saved, row * view.Columns * saved.Type.Bits() / 8, mine.AsSpan(0, bytes));
            if (!mine.AsSpan(0, bytes).SequenceEqual(rounded.AsSpan(0, bytes)))
            {
                return false;
            }
        }

        return true;
    }

    /// <summary>True if all bytes of a tensor are zero.</summary>
    public static bool IsZero(InputFiles files, StoredTensor tensor)
    {
        Span<byte> bytes = stackalloc byte[4096];
        for (var at = 0L; at < tensor.Length; at += bytes.Length)
        {
            bytes = bytes[..(int)Math.Min(bytes.Length, tensor.Length - at)];
            files.Read(tensor, at, bytes);
            if (bytes.ContainsAnyExcept((byte)0))
            {
                return false;
            }
        }

        return true;
    }

    /// <summary>True if two tensors of one dtype and shape hold the same bytes.</summary>
    public static bool Equal(StoredTensor a, StoredTensor b)
    {
        using var files = new InputFiles();
        var (x, y) = (new byte[PieceBytes], new byte[PieceBytes]);
        for (var at = 0L; at < a.Length; at += PieceBytes)
        {
            var count = (int)Math.Min(PieceBytes, a.Length - at);
            files.Read(a, at, x.AsSpan(0, count));
            files.Read(b, at, y.AsSpan(0, count));
            if (!x.AsSpan(0, count).SequenceEqual(y.AsSpan(0, count)))
            {
                return false;
            }
        }

        return true;
    }

    /// <summary>True if two factors are the same matrix, however they are stored.</summary>
    public static bool Equal(FactorMatrix a, FactorMatrix b)
    {
        if (a.Rows != b.Rows || a.Columns != b.Columns)
        {
            return false;
        }

        using var files = new InputFiles();
        var rows = (int)Math.Clamp(PieceBytes / sizeof(float) / Math.Max(a.Columns, 1), 1, Math.Max(a.Rows, 1));
        var (x, y) = (new float[rows * a.Columns], new float[rows * a.Columns]);
        for (var row = 0L; row < a.Rows; row += rows)
        {
            var count = (int)Math.Min(rows, a.Rows - row);
            a.ReadRows(files, row, count, 1, x, new byte[a.ScratchBytes(count)]);
            b.ReadRows(files, row, count, 1, y, new byte[b.ScratchBytes(count)]);
            if (!x.AsSpan(0, (int)(count * a.Columns)).SequenceEqual(y.AsSpan(0, (int)(count * a.Columns))))
            {
                return false;
            }
        }

        return true;
    }
}
