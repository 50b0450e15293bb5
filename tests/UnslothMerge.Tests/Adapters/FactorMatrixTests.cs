namespace UnslothMerge.Tests.Adapters;

public sealed class FactorMatrixTests : FileTests
{
    private const int Rows = 13;
    private const int Columns = 24;

    // With and without memory to share; some windows cover whole rows, some every n-th column.
    [Fact]
    public void Any_window_of_a_stored_matrix_is_read_either_way_round()
    {
        TinyModel.WriteFile(Temp["file"], ("t", Numbers.Of([Rows, Columns], i => (i / Columns * 100) + (i % Columns))));
        var tensor = SafetensorsFile.Open(Temp["file"]).Tensors[0];
        var windows =
            from row in Gen.Int[0, Rows - 1]
            from rows in Gen.Int[1, Rows - row]
            from stride in Gen.Int[1, 6]
            from column in Gen.Int[0, Columns - 1]
            from columns in Gen.Int[1, ((Columns - 1 - column) / stride) + 1]
            from whole in Gen.Bool
            from transposed in Gen.Bool
            from shared in Gen.Bool.Select(b => b ? 1_000_000L : 0L)
            select (R: new Slice(row, rows), C: whole ? new Slice(0, Columns) : new Slice(column, columns, stride), transposed, shared);
        windows.Sample(w =>
        {
            using var files = new InputFiles(w.shared);
            var factor = new FactorMatrix(tensor, w.transposed) { StoredRows = w.R, StoredColumns = w.C };
            var (height, width) = ((int)factor.Rows, (int)factor.Columns);
            Assert.Equal(w.transposed ? (w.C.Count, w.R.Count) : (w.R.Count, w.C.Count), (factor.Rows, factor.Columns));
            var first = height / 2;
            var values = new float[(height - first) * width];
            factor.ReadRows(files, first, height - first, 0.5, values, new byte[factor.ScratchBytes(height - first)]);
            for (var i = 0; i < values.Length; i++)
            {
                var (a, b) = (first + (i / width), i % width);
                var (r, c) = w.transposed ? (w.R.At(b), w.C.At(a)) : (w.R.At(a), w.C.At(b));
                Assert.Equal(((r * 100) + c) / 2f, values[i]);
            }
        });
    }
}
