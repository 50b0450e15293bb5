using UnslothMerge.Formats;
using UnslothMerge.IO;
using UnslothMerge.Safetensors;
using UnslothMerge.Simd;

namespace UnslothMerge.Planning;

/// <summary>
/// Tells a tensor that an adapter saved with its base's values from a trained one. PEFT saves the weight of every adapted embedding and head; taking
/// it for a replacement would forbid weights and combinations, and would spread the dtype it was saved in. This is the only place where a plan
/// reads values; a trained tensor is known by its first rows.
/// </summary>
internal static class SavedCopy
{
    private const int PieceValues = 1 << 20;

    /// <summary>True if a stored tensor holds a source's values, rounded to its own dtype.</summary>
    public static bool IsCopy(TensorSource source, StoredTensor saved)
    {
        if (!source.Shape.SequenceEqual(saved.Shape) || !source.Type.IsPlainFloat() || !saved.Type.IsPlainFloat() || saved.Type == TensorType.F64)
        {
            return false;
        }

        var view = MatrixView.Of(saved.Shape);
        var rows = Math.Max(1, PieceValues / Math.Max(view.Columns, 1) / source.RowQuantum) * source.RowQuantum;
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
}
