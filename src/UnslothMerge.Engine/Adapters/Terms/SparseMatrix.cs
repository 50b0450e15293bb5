namespace UnslothMerge.Adapters.Terms;

/// <summary>A matrix of few values, by row. Values at the same place add up.</summary>
internal sealed class SparseMatrix : DeltaMatrix
{
    private readonly int[] _starts;
    private readonly int[] _columns;
    private readonly float[] _values;

    /// <summary>Sorts the values into rows.</summary>
    public SparseMatrix(int rows, int count, Func<int, (int Row, int Column, double Value)> place)
    {
        _starts = new int[rows + 1];
        _columns = new int[count];
        _values = new float[count];
        for (var i = 0; i < count; i++)
        {
            _starts[place(i).Row + 1]++;
        }

        for (var row = 0; row < rows; row++)
        {
            _starts[row + 1] += _starts[row];
        }

        var next = _starts[..rows];
        for (var i = 0; i < count; i++)
        {
            var (row, column, value) = place(i);
            var at = next[row]++;
            _columns[at] = column;
            _values[at] = (float)value;
        }

        // Stable, so that the order in which equal places add up is the given one.
        for (var row = 0; row < rows; row++)
        {
            SortRow(_starts[row], _starts[row + 1] - _starts[row]);
        }
    }

    public override void Fill(Block block, Span<double> values)
    {
        values[..block.Count].Clear();
        for (var i = 0; i < block.Rows; i++)
        {
            var (start, end) = (_starts[block.Row + i], _starts[block.Row + i + 1]);
            for (var at = FirstFrom(start, end, block.Column); at < end && _columns[at] < block.Column + block.Columns; at++)
            {
                values[(i * block.Columns) + _columns[at] - block.Column] += _values[at];
            }
        }
    }

    private void SortRow(int start, int count)
    {
        var keys = new (int Column, int Order)[count];
        var values = _values.AsSpan(start, count).ToArray();
        for (var i = 0; i < count; i++)
        {
            keys[i] = (_columns[start + i], i);
        }

        Array.Sort(keys);
        for (var i = 0; i < count; i++)
        {
            _columns[start + i] = keys[i].Column;
            _values[start + i] = values[keys[i].Order];
        }
    }

    private int FirstFrom(int start, int end, int column)
    {
        while (start < end)
        {
            var middle = start + ((end - start) / 2);
            (start, end) = _columns[middle] < column ? (middle + 1, end) : (start, middle);
        }

        return start;
    }
}
