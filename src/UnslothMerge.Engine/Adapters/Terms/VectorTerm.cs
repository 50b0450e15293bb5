using System.Numerics.Tensors;
using UnslothMerge.IO;
using UnslothMerge.Safetensors;

namespace UnslothMerge.Adapters.Terms;

/// <summary>Δ = scaling · v for a vector, for example the bias that <c>lora_bias</c> trains.</summary>
/// <param name="kind">The kind of adapter.</param>
/// <param name="vector">[n], or [1, n].</param>
/// <param name="scaling">The factor.</param>
public sealed class VectorTerm(string kind, StoredTensor vector, double scaling) : DeltaTerm
{
    /// <inheritdoc/>
    public override string Kind => kind;

    /// <inheritdoc/>
    public override IReadOnlyList<StoredTensor> Inputs => [vector];

    /// <inheritdoc/>
    public override double Scaling => scaling;

    /// <inheritdoc/>
    public override long ResidentBytes => vector.Shape.Count() * sizeof(float);

    /// <inheritdoc/>
    public override long BytesOf(int rows) => 0;

    /// <inheritdoc/>
    public override DeltaReader Open(DeltaContext context) => new Reader(ReadWhole(context.Files, vector, scaling * context.Factor));

    /// <summary>Reads a whole, small tensor of any shape as fp32.</summary>
    /// <param name="files">The open files.</param>
    /// <param name="tensor">The tensor.</param>
    /// <param name="scale">A factor, multiplied in double and rounded once.</param>
    /// <exception cref="MergeException">A value is NaN or infinite.</exception>
    internal static float[] ReadWhole(InputFiles files, StoredTensor tensor, double scale = 1)
    {
        var vector = new FactorMatrix(tensor with { Shape = [tensor.Shape.Count()] }, Transposed: false);
        var values = new float[vector.Rows];
        vector.ReadRows(files, 0, values.Length, scale, values, new byte[vector.ScratchBytes(values.Length)]);
        return values;
    }

    // A vector is one row: it is loaded once.
    private sealed class Reader(float[] values) : DeltaReader
    {
        public override void Read(long row, int rows, Span<byte> buffer)
        {
        }

        public override void Apply(ReadOnlySpan<byte> buffer, long row, Formats.Tile tile)
        {
            var delta = tile.DeltaRow(0);
            TensorPrimitives.Add(delta, values.AsSpan(tile.Column, tile.Columns), delta);
        }
    }
}
