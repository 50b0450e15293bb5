using UnslothMerge.Adapters;
using UnslothMerge.Verification.References;

namespace UnslothMerge.Verification;

/// <summary>Which elements are compared: all, or samples of a seed.</summary>
internal sealed record Sampling(bool Full, int Seed);

/// <summary>Compares one tensor of an output with base and adapters: byte by byte where nothing changes, element by element against float64
/// references elsewhere; all of it, or samples from everywhere. Workers may take its pieces in any order.</summary>
internal sealed class TensorComparer : IDisposable
{
    private const int PieceValues = 1 << 19;
    private const int PieceBytes = 4 << 20;

    // One row of each of so many parts of a tensor, its first row and its last; of an adapted part (an expert) at least two.
    private const int SampledParts = 32;
    private const int SampledBytes = 4096;

    // The largest matrix of which a reference may hold float64 copies; a larger one would take several GB.
    private const long MaxWholeValues = 1L << 26;

    private readonly LogicalTensor _tensor;
    private readonly TensorSource _output;
    private readonly InputFiles _files;
    private readonly MatrixView _view;
    private readonly QuantizationTolerance? _tolerance;
    private readonly bool _isVerbatim;
    private readonly List<long[]> _rows = [];
    private readonly List<(long Start, int Length)> _bytes = [];
    private readonly Lazy<SharedState> _shared;
    private readonly TensorComparison?[] _results;
    private int _unfinished;

    public TensorComparer(LogicalTensor tensor, TensorSource output, InputFiles files, ReferenceBuilder builder, Sampling sampling,
        JsonObject? quantization)
    {
        (_tensor, _output, _files) = (tensor, output, files);
        _view = ReferenceBuilder.ViewOf(tensor);
        _tolerance = QuantizationTolerance.Of(output, quantization, files);
        _isVerbatim = tensor.Action == TensorAction.Copy && output.Verbatim is { } stored && stored.Type == tensor.Source.Verbatim?.Type;
        _shared = new Lazy<SharedState>(() => new SharedState(this, builder));
        if (_isVerbatim)
        {
            _bytes.AddRange(ByteRanges(output.Verbatim!.Length, sampling));
        }
        else
        {
            _rows.AddRange(RowPieces(sampling));
        }

        Pieces = Math.Max(_bytes.Count, _rows.Count);
        _results = new TensorComparison?[Pieces];
        _unfinished = Pieces;
        Bytes = _isVerbatim ? _bytes.Sum(b => (long)b.Length) : _rows.Sum(r => r.LongLength) * _view.Columns * 2;
    }

    public string Name => _tensor.Name;

    public int Pieces { get; }

    /// <summary>The bytes to compare, approximately.</summary>
    public long Bytes { get; }

    /// <summary>The result, after all pieces have been compared.</summary>
    public TensorComparison Result()
    {
        var all = new TensorComparison(_tensor, _output.Type) { IsVerbatim = _isVerbatim };
        foreach (var piece in _results.OfType<TensorComparison>())
        {
            all.Add(piece);
        }

        return all;
    }

    /// <summary>Compares one piece.</summary>
    public void Compare(int piece)
    {
        var result = new TensorComparison(_tensor, _output.Type);
        if (_isVerbatim)
        {
            CompareBytes(_bytes[piece], result);
        }
        else if (_shared.Value is { NotVerified: { } reason })
        {
            result.NotVerified = reason;
        }
        else if (!_shared.Value.NeedsAllRows)
        {
            CompareRows(_shared.Value, _rows[piece], result);
        }
        else if (piece == 0)
        {
            CompareRows(_shared.Value, RowSet.Range(0, _view.Rows), result);
        }

        _results[piece] = result;
        if (Interlocked.Decrement(ref _unfinished) == 0)
        {
            Dispose();
        }
    }

    public void Dispose()
    {
        if (_shared.IsValueCreated)
        {
            _shared.Value.Dispose();
        }
    }

    private void CompareBytes((long Start, int Length) piece, TensorComparison result)
    {
        var (expected, actual) = (new byte[piece.Length], new byte[piece.Length]);
        _files.Read(_tensor.Source.Verbatim!, piece.Start, expected);
        _files.Read(_output.Verbatim!, piece.Start, actual);
        result.AddBytes(expected, actual, piece.Start);
    }

    private void CompareRows(SharedState shared, long[] rows, TensorComparison result)
    {
        var set = shared.Read(rows, shared.References);
        var actual = new double[set.Values.Length];
        shared.Output.Read(rows, actual);
        var tolerances = _tolerance?.For(rows, set.Values, actual, _view.Columns);

        // Where a reference does not know fp32's rounding errors, the magnitude of its results bounds them.
        var unknown = shared.References.All(r => r.KnowsNoise)
            ? 0
            : 2e-6 * set.Values.Where(double.IsFinite).Select(Math.Abs).DefaultIfEmpty().Max();
        for (var i = 0; i < actual.Length; i++)
        {
            var (row, column) = Math.DivRem(i, _view.Columns);
            var noise = unknown + set.Noise[row] + (shared.References.Count == 0 ? 0 : Math.Abs(set.Values[i]) / (1 << 23));
            result.Add(set.Weight[i], set.Values[i], actual[i], noise, tolerances?[i], (rows[row] * _view.Columns) + column);
        }
    }

    private static IEnumerable<(long Start, int Length)> ByteRanges(long length, Sampling sampling)
    {
        if (sampling.Full || length <= SampledBytes * SampledParts)
        {
            for (var start = 0L; start < length; start += PieceBytes)
            {
                yield return (start, (int)Math.Min(PieceBytes, length - start));
            }

            yield break;
        }

        var random = new Random(sampling.Seed);
        var part = length / SampledParts;
        yield return (0, SampledBytes);
        for (var i = 1; i < SampledParts - 1; i++)
        {
            yield return ((i * part) + random.NextInt64(Math.Max(part - SampledBytes, 1)), SampledBytes);
        }

        yield return (length - SampledBytes, SampledBytes);
    }

    private IEnumerable<long[]> RowPieces(Sampling sampling)
    {
        // Blocks of a quantized output may span rows, and are compared as a whole.
        var quantum = _tolerance?.RowQuantum(_view.Columns) ?? 1;
        var (rows, pieceRows) = (_view.Rows, PieceValues / Math.Max(_view.Columns, 1));
        if (sampling.Full || rows <= 2L * SampledParts * quantum)
        {
            var height = (int)Math.Clamp(pieceRows / quantum * quantum, quantum, Math.Max(rows, quantum));
            for (var first = 0L; first < rows; first += height)
            {
                yield return RowSet.Range(first, Math.Min(height, rows - first));
            }

            yield break;
        }

        var random = new Random(sampling.Seed);
        var blocks = new SortedSet<long> { 0, (rows - 1) / quantum };
        var part = (double)rows / quantum / SampledParts;
        for (var i = 0; i < SampledParts; i++)
        {
            blocks.Add((long)((i + random.NextDouble()) * part));
        }

        foreach (var range in _tensor.Terms.Select(t => t.Term.Rows).OfType<RowRange>())
        {
            blocks.Add((range.First + random.NextInt64(range.Count)) / quantum);
            blocks.Add((range.First + random.NextInt64(range.Count)) / quantum);
        }

        var sampled = blocks.SelectMany(b => RowSet.Range(b * quantum, Math.Min(quantum, rows - (b * quantum))));
        foreach (var chunk in sampled.Chunk(Math.Max(pieceRows, quantum)))
        {
            yield return chunk;
        }
    }

    /// <summary>The readers and references that the pieces share.</summary>
    private sealed class SharedState : IDisposable
    {
        private readonly MatrixView _view;
        private readonly RowReader _base;

        public SharedState(TensorComparer comparer, ReferenceBuilder builder)
        {
            var tensor = comparer._tensor;
            _view = comparer._view;
            _base = new RowReader(comparer._files, tensor.Source, _view);
            Output = new RowReader(comparer._files, comparer._output, _view);
            References = builder.Build(tensor) ?? [];
            NeedsAllRows = References.Any(r => r.NeedsAllRows);
            var kinds = string.Join(", ", tensor.Terms.Select(t => t.Term.Kind).Distinct());
            NotVerified = References.Count == 0 && tensor.Terms.Length > 0 ? $"there is no reference for {kinds}"
                : NeedsAllRows && _view.Count > MaxWholeValues ? $"a reference for {kinds} would need too much memory"
                : null;
            if (NotVerified is null)
            {
                Scan();
            }
        }

        public RowReader Output { get; }

        public IReadOnlyList<Reference> References { get; }

        public bool NeedsAllRows { get; }

        /// <summary>Why the tensor cannot be verified; null if it can.</summary>
        public string? NotVerified { get; }

        public RowSet Read(long[] rows, IEnumerable<Reference> references)
        {
            var set = new RowSet(rows, _view.Columns);
            _base.Read(rows, set.Weight);
            set.Weight.CopyTo(set.Values, 0);
            foreach (var reference in references)
            {
                reference.Apply(set);
            }

            return set;
        }

        public void Dispose()
        {
            _base.Dispose();
            Output.Dispose();
        }

        private void Scan()
        {
            foreach (var (n, reference) in References.Index().Where(r => r.Item.NeedsScan))
            {
                var height = Math.Max(PieceValues / Math.Max(_view.Columns, 1), 1);
                for (var first = 0L; first < _view.Rows; first += height)
                {
                    reference.Scan(Read(RowSet.Range(first, Math.Min(height, _view.Rows - first)), References.Take(n)));
                }
            }
        }
    }
}
