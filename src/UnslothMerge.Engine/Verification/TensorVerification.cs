using UnslothMerge.Formats;
using UnslothMerge.IO;
using UnslothMerge.Planning;
using UnslothMerge.Safetensors;
using UnslothMerge.Verification.References;

namespace UnslothMerge.Verification;

/// <summary>
/// Compares one tensor of an output with what base and adapters make of it: byte by byte where nothing changes, element by element against float64 references
/// elsewhere; all of it, or samples from everywhere. Workers may take its pieces in any order.
/// </summary>
internal sealed class TensorVerification : IDisposable
{
    private const int PieceValues = 1 << 19;
    private const int PieceBytes = 4 << 20;

    // One row out of each of so many parts of a tensor, its first row and its last; of an adapted part (an expert) at least two.
    private const int SampledParts = 32;
    private const int SampledBytes = 4096;

    // float64 copies of a matrix that must be there as a whole; beyond it, a reference would take several GB.
    private const long MaxWholeValues = 1L << 26;

    private readonly LogicalTensor _tensor;
    private readonly TensorSource _output;
    private readonly InputFiles _files;
    private readonly ReferenceBuilder _builder;
    private readonly object _gate = new();
    private readonly MatrixView _view;
    private readonly QuantizationSlack? _slack;
    private readonly List<IReadOnlyList<long>> _rows = [];
    private readonly List<(long Start, int Length)> _bytes = [];
    private readonly Lazy<Opened> _opened;
    private readonly int _seed;
    private readonly TensorVerdict?[] _pieces;
    private int _left;

    /// <summary>Prepares the comparison.</summary>
    /// <param name="tensor">What should be there, with the caller's strength.</param>
    /// <param name="output">What is there.</param>
    /// <param name="files">The open files.</param>
    /// <param name="builder">Finds the references.</param>
    /// <param name="full">True to compare every element.</param>
    /// <param name="seed">Chooses the samples.</param>
    public TensorVerification(LogicalTensor tensor, TensorSource output, InputFiles files, ReferenceBuilder builder, bool full, int seed)
    {
        (_tensor, _output, _files, _builder, _seed) = (tensor, output, files, builder, seed);
        _view = ReferenceBuilder.ViewOf(tensor);
        _slack = QuantizationSlack.Of(output, files);
        IsVerbatim = tensor.Action == TensorAction.Copy && output.Verbatim?.Type == tensor.Source.Verbatim?.Type && output.Verbatim is not null;
        _opened = new Lazy<Opened>(Open);
        if (IsVerbatim)
        {
            CutBytes(output.Verbatim!.Length, full);
        }
        else
        {
            CutRows(full);
        }

        Pieces = Math.Max(_bytes.Count, _rows.Count);
        _pieces = new TensorVerdict?[Pieces];
        _left = Pieces;
        Bytes = IsVerbatim ? _bytes.Sum(b => (long)b.Length) : _rows.Sum(r => (long)r.Count) * _view.Columns * 2;
    }

    /// <summary>The tensor's name.</summary>
    public string Name => _tensor.Name;

    /// <summary>True if its bytes must be the base's.</summary>
    public bool IsVerbatim { get; }

    /// <summary>The number of pieces.</summary>
    public int Pieces { get; }

    /// <summary>About how much there is to do.</summary>
    public long Bytes { get; }

    /// <summary>What was found, once all pieces are done.</summary>
    public TensorVerdict Verdict()
    {
        var all = new TensorVerdict(_tensor) { Format = _output.Format, IsVerbatim = IsVerbatim };
        foreach (var piece in _pieces.OfType<TensorVerdict>())
        {
            all.Add(piece);
            all.NotVerified ??= piece.NotVerified;
        }

        return all;
    }

    /// <summary>Does one piece.</summary>
    public void Run(int piece)
    {
        var verdict = new TensorVerdict(_tensor);
        if (IsVerbatim)
        {
            CompareBytes(_bytes[piece], verdict);
        }
        else
        {
            var opened = _opened.Value;
            if (opened.NotVerified is not null)
            {
                verdict.NotVerified = opened.NotVerified;
            }
            else if (!opened.NeedsAllRows)
            {
                CompareRows(opened, _rows[piece], verdict);
            }
            else if (piece == 0)
            {
                CompareRows(opened, Range(0, _view.Rows), verdict);
            }
        }

        _pieces[piece] = verdict;
        if (Interlocked.Decrement(ref _left) == 0)
        {
            Dispose();
        }
    }

    public void Dispose()
    {
        lock (_gate)
        {
            if (_opened.IsValueCreated)
            {
                _opened.Value.Dispose();
            }
        }
    }

    private void CompareBytes((long Start, int Length) piece, TensorVerdict verdict)
    {
        var (expected, actual) = (new byte[piece.Length], new byte[piece.Length]);
        _files.Read(_tensor.Source.Verbatim!, piece.Start, expected);
        _files.Read(_output.Verbatim!, piece.Start, actual);
        verdict.AddBytes(expected, actual, piece.Start);
    }

    private void CompareRows(Opened opened, IReadOnlyList<long> rows, TensorVerdict verdict)
    {
        var set = opened.Read(rows);
        foreach (var reference in opened.References)
        {
            reference.Apply(set);
        }

        var actual = new double[set.Values.Length];
        opened.Output.Read(rows, actual);
        var slacks = _slack?.For(rows, set.Values, actual, _view.Columns);

        // What a reference does not know of fp32's rounding is bounded by the size of the numbers that went into it.
        var unknown = opened.References.All(r => r.KnowsNoise) ? 0 : 2e-6 * set.Values.Where(double.IsFinite).Select(Math.Abs).DefaultIfEmpty().Max();
        for (var i = 0; i < actual.Length; i++)
        {
            var expected = set.Values[i];
            var noise = unknown + set.Noise[i / _view.Columns] + (opened.References.Count == 0 ? 0 : Math.Abs(expected) / (1 << 23));
            verdict.Add(_output.Type, set.Weight[i], expected, actual[i], noise, slacks?[i], (rows[i / _view.Columns] * _view.Columns) + (i % _view.Columns));
        }
    }

    private Opened Open()
    {
        var references = _builder.Build(_tensor);
        var why = references is null ? $"there is no reference for {string.Join(", ", _tensor.Terms.Select(t => t.Term.Kind).Distinct())}"
            : references.Any(r => r.NeedsAllRows) && _view.Count > MaxWholeValues ? $"a reference for {string.Join(", ", _tensor.Terms.Select(t => t.Term.Kind).Distinct())} would need too much memory"
            : null;
        var opened = new Opened(new RowReader(_files, _tensor.Source, _view), new RowReader(_files, _output, _view), references ?? [], why, _view);
        if (why is null)
        {
            opened.See();
        }

        return opened;
    }

    private void CutBytes(long length, bool full)
    {
        if (full || length <= SampledBytes * SampledParts)
        {
            for (var start = 0L; start < length; start += PieceBytes)
            {
                _bytes.Add((start, (int)Math.Min(PieceBytes, length - start)));
            }

            return;
        }

        var random = new Random(_seed);
        var part = length / SampledParts;
        for (var i = 0; i < SampledParts; i++)
        {
            var start = i == 0 ? 0 : i == SampledParts - 1 ? length - SampledBytes : (i * part) + random.NextInt64(Math.Max(part - SampledBytes, 1));
            _bytes.Add((start, SampledBytes));
        }
    }

    private void CutRows(bool full)
    {
        // Blocks of a quantized output may span rows, and are compared as a whole.
        var quantum = _slack?.RowQuantum(_view.Columns) ?? 1;
        var rows = _view.Rows;
        if (full || rows <= 2L * SampledParts * quantum)
        {
            var height = (int)Math.Clamp(PieceValues / Math.Max(_view.Columns, 1) / quantum * quantum, quantum, Math.Max(rows, quantum));
            for (var first = 0L; first < rows; first += height)
            {
                _rows.Add(Range(first, Math.Min(height, rows - first)));
            }

            return;
        }

        var random = new Random(_seed);
        var chosen = new SortedSet<long> { 0, (rows - 1) / quantum };
        var part = (double)rows / quantum / SampledParts;
        for (var i = 0; i < SampledParts; i++)
        {
            chosen.Add((long)((i + random.NextDouble()) * part));
        }

        foreach (var range in _tensor.Terms.Select(t => t.Term.Rows).OfType<Adapters.RowRange>())
        {
            chosen.Add((range.First + random.NextInt64(range.Count)) / quantum);
            chosen.Add((range.First + random.NextInt64(range.Count)) / quantum);
        }

        foreach (var few in chosen.SelectMany(c => Range(c * quantum, Math.Min(quantum, rows - (c * quantum)))).Chunk(Math.Max(PieceValues / Math.Max(_view.Columns, 1), quantum)))
        {
            _rows.Add(few);
        }
    }

    private static long[] Range(long first, long count)
    {
        var rows = new long[count];
        for (var i = 0; i < rows.Length; i++)
        {
            rows[i] = first + i;
        }

        return rows;
    }

    /// <summary>What the pieces share.</summary>
    private sealed class Opened(RowReader @base, RowReader output, IReadOnlyList<Reference> references, string? notVerified, MatrixView view) : IDisposable
    {
        public RowReader Output => output;

        public IReadOnlyList<Reference> References => references;

        public string? NotVerified => notVerified;

        public bool NeedsAllRows => references.Any(r => r.NeedsAllRows);

        public RowSet Read(IReadOnlyList<long> rows)
        {
            var set = new RowSet(rows, view.Columns);
            @base.Read(rows, set.Weight);
            set.Weight.CopyTo(set.Values, 0);
            return set;
        }

        // Shows all rows to what must have seen them, each as the references before it leave it.
        public void See()
        {
            foreach (var (reference, n) in references.Select((r, n) => (r, n)).Where(r => r.r.NeedsToSee))
            {
                var height = Math.Max(PieceValues / Math.Max(view.Columns, 1), 1);
                for (var first = 0L; first < view.Rows; first += height)
                {
                    var set = Read(Range(first, Math.Min(height, view.Rows - first)));
                    foreach (var earlier in references.Take(n))
                    {
                        earlier.Apply(set);
                    }

                    reference.See(set);
                }
            }
        }

        public void Dispose()
        {
            @base.Dispose();
            output.Dispose();
        }
    }
}
