using System.Numerics;
using UnslothMerge.Simd;

namespace UnslothMerge.Adapters;

/// <summary>Sees a part of a tensor: whole rows.</summary>
internal delegate void TileVisitor(Tile tile);

/// <summary>What a delta finds when a run opens it: the adapter's values, and the rows of the target.</summary>
internal abstract class DeltaContext(InputFiles files, MatrixView view, double factor)
{
    /// <summary>The open files.</summary>
    public InputFiles Files { get; } = files;

    /// <summary>The matrix of the target.</summary>
    public MatrixView View { get; } = view;

    /// <summary>The caller's factor on the delta; 1 for a change that is not a sum.</summary>
    public double Factor { get; } = factor;

    /// <summary>The most threads that opening the delta may use. Other workers wait for it meanwhile.</summary>
    public abstract int Workers { get; }

    /// <summary>Shows every row of the target in order, with its weights and the deltas of the terms before this one, in tiles of whole
    /// rows.</summary>
    public abstract void Scan(TileVisitor visitor);

    /// <inheritdoc cref="AdapterValues.Read"/>
    public double[] Read(StoredTensor tensor, bool mayBeInfinite = false) => AdapterValues.Read(Files, tensor, mayBeInfinite);

    /// <inheritdoc cref="AdapterValues.ReadCorner"/>
    public T[] ReadCorner<T>(StoredTensor tensor, int rows, int columns)
        where T : unmanaged, IBinaryFloatingPointIeee754<T> => AdapterValues.ReadCorner<T>(Files, tensor, rows, columns);

    /// <inheritdoc cref="AdapterValues.ReadIndices"/>
    public int[] ReadIndices(StoredTensor tensor, params long[] limits) => AdapterValues.ReadIndices(Files, tensor, limits);

    /// <summary>factors [rows, outputs] · W [outputs, inputs], the target's weights, in one pass over them. Transposed: the target is
    /// stored as [inputs, outputs].</summary>
    public double[] TimesWeight(double[] factors, int rows, bool transposed)
    {
        var (outputs, inputs) = transposed ? (View.Columns, (int)View.Rows) : ((int)View.Rows, View.Columns);
        var product = new double[rows * inputs];
        var line = new double[View.Columns];
        Scan(tile =>
        {
            for (var i = 0; i < tile.Rows; i++)
            {
                var at = (int)tile.Row + i;
                TensorPrimitives.ConvertTruncating<float, double>(tile.WeightRow(i), line);
                for (var k = 0; k < rows; k++)
                {
                    if (transposed)
                    {
                        product[(k * inputs) + at] = FixedOrder.Dot(factors.AsSpan(k * outputs, outputs), line);
                    }
                    else
                    {
                        var row = product.AsSpan(k * inputs, inputs);
                        TensorPrimitives.FusedMultiplyAdd(line, factors[(k * outputs) + at], row, row);
                    }
                }
            }
        });
        return product;
    }
}
