namespace UnslothMerge.Formats;

/// <summary>The unit of work: a small rectangle of a tensor's matrix in fp32, two planes of <see cref="Rows"/> × <see cref="Columns"/>
/// values, row-major, without gaps. <see cref="Weight"/> is what the base holds; <see cref="Delta"/> collects what is added, so that there
/// is one addition and one rounding at the end; it is empty where nothing is added.</summary>
internal readonly ref struct Tile(Span<float> weight, Span<float> delta, long row, int rows, int column, int columns)
{
    /// <summary>The decoded values.</summary>
    public Span<float> Weight { get; } = weight;

    /// <summary>The sum of the deltas.</summary>
    public Span<float> Delta { get; } = delta;

    /// <summary>The first row in the matrix.</summary>
    public long Row { get; } = row;

    public int Rows { get; } = rows;

    /// <summary>The first column in the matrix.</summary>
    public int Column { get; } = column;

    /// <summary>The number of columns, and the distance between two rows.</summary>
    public int Columns { get; } = columns;

    public Span<float> WeightRow(int row) => Weight.Slice(row * Columns, Columns);

    /// <summary>One row of <see cref="Delta"/>; empty where nothing is added.</summary>
    public Span<float> DeltaRow(int row) => Delta.IsEmpty ? default : Delta.Slice(row * Columns, Columns);
}

/// <summary>The two-dimensional view of a tensor that tiles are cut from.</summary>
internal readonly record struct MatrixView(long Rows, int Columns)
{
    /// <summary>The usual view: the last dimension is the columns, all others are rows; a vector is one row. An empty tensor has no rows,
    /// whatever its shape says: nobody counts to 2^40 for nothing.</summary>
    public static MatrixView Of(IReadOnlyList<long> shape) => shape.Count switch
    {
        0 => new(1, 1),
        1 => new(1, checked((int)shape[0])),
        2 => new(shape[1] == 0 ? 0 : shape[0], checked((int)shape[1])),
        _ when shape.Contains(0) => new(0, checked((int)shape[^1])),
        _ => new(shape.Take(shape.Count - 1).Aggregate(1L, (a, b) => checked(a * b)), checked((int)shape[^1])),
    };

    /// <summary>The view of a layer's weight [out, …]: one row per output, all other dimensions flattened. For convolutions.</summary>
    public static MatrixView ByOutput(IReadOnlyList<long> shape) =>
        new(shape[0], checked((int)shape.Skip(1).Aggregate(1L, (a, b) => a * b)));

    /// <summary>True if a tensor can be seen so: no dimension but that of rows is beyond what a buffer has, not even of an empty tensor.
    /// </summary>
    public static bool CanBeOf(IReadOnlyList<long> shape)
    {
        var rows = 1.0;
        for (var i = 0; i < shape.Count - 1; i++)
        {
            rows *= shape[i];
        }

        return shape.Count == 0 || (shape[^1] <= int.MaxValue && rows < long.MaxValue / 2);
    }

    /// <summary>The number of elements.</summary>
    public long Count => Rows * Columns;
}
