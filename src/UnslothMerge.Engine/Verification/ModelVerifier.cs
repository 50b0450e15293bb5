using System.Globalization;
using System.Runtime.ExceptionServices;
using UnslothMerge.Execution;
using UnslothMerge.IO;
using UnslothMerge.Planning;
using UnslothMerge.Safetensors;
using UnslothMerge.Verification.References;

namespace UnslothMerge.Verification;

/// <summary>How an output is verified.</summary>
/// <param name="Full">True to look at every element; false for samples out of every tensor.</param>
/// <param name="Workers">The number of threads.</param>
public sealed record VerificationOptions(bool Full, int Workers)
{
    /// <summary>A directory whose tokenizer was saved instead of the adapter's or the base's.</summary>
    public string? Tokenizer { get; init; }
}

/// <summary>
/// Opens a saved model by itself and checks that structure and numbers are those of base and adapters: in float64, by formulas written down a second time
/// (see <see cref="Reference"/>), without the executor, the kernels and the terms that made it.
/// </summary>
public sealed class ModelVerifier
{
    private const int Seed = 0x5eed;

    private static readonly TimeSpan ProgressInterval = TimeSpan.FromMilliseconds(100);

    private readonly IReadOnlyList<TensorVerification> _tensors;
    private readonly CancellationTokenSource _stop;

    private readonly IEnumerator<(TensorVerification Tensor, int Piece)> _pieces;
    private readonly object _gate = new();
    private ExceptionDispatchInfo? _failure;
    private TensorVerification? _current;
    private long _done;

    private ModelVerifier(IReadOnlyList<TensorVerification> tensors, CancellationToken cancellation)
    {
        _tensors = tensors;
        _stop = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        _pieces = tensors.SelectMany(t => Enumerable.Range(0, t.Pieces).Select(p => (t, p))).GetEnumerator();
    }

    /// <summary>Verifies an output.</summary>
    /// <param name="plan">The merge that it should hold.</param>
    /// <param name="tensors">The tensors to look at, in the plan's order, with the caller's strengths.</param>
    /// <param name="path">The output's directory.</param>
    /// <param name="options">How.</param>
    /// <param name="progress">Called on this thread, about ten times a second.</param>
    /// <param name="cancellation">Stops every worker within a piece.</param>
    /// <exception cref="MergeException">There is no such directory, or base or adapters cannot be read.</exception>
    /// <exception cref="OperationCanceledException">The caller cancelled.</exception>
    public static IReadOnlyList<VerificationResult> Verify(MergePlan plan, IReadOnlyList<LogicalTensor> tensors, string path, VerificationOptions options, IProgress<MergeProgress>? progress, CancellationToken cancellation)
    {
        var output = new OutputModel(path);
        var structure = new StructureChecks(plan, tensors, output).Run().Append(TokenizerCheck.Run(plan, output, options.Tokenizer)).ToList();

        using var files = new InputFiles();
        var builder = new ReferenceBuilder(plan, files);
        var comparable = tensors.Where(t => output.Sources.TryGetValue(t.Name, out var source) && source.Shape.SequenceEqual(t.Shape) && source.Type.IsPlainFloat() == t.Type.IsPlainFloat()).ToList();
        var verifications = comparable.Select(t => new TensorVerification(t, output.Sources[t.Name], files, builder, options.Full, unchecked(Seed + t.Ordinal))).ToList();
        var verifier = new ModelVerifier(verifications, cancellation);
        try
        {
            verifier.Run(Math.Max(options.Workers, 1), progress);
            cancellation.ThrowIfCancellationRequested();
            return [.. structure, .. NumberChecks.Of([.. verifications.Select(v => v.Verdict())], options.Full)];
        }
        finally
        {
            verifier._stop.Dispose();
            verifications.ForEach(v => v.Dispose());
        }
    }

    private void Run(int workers, IProgress<MergeProgress>? progress)
    {
        var threads = new Thread[workers];
        for (var i = 0; i < threads.Length; i++)
        {
            threads[i] = new Thread(Work) { IsBackground = true, Name = string.Create(CultureInfo.InvariantCulture, $"verify {i}") };
            threads[i].Start();
        }

        var total = _tensors.Sum(t => t.Bytes);
        try
        {
            foreach (var thread in threads)
            {
                while (!thread.Join(ProgressInterval))
                {
                    progress?.Report(new MergeProgress(Interlocked.Read(ref _done), total, Volatile.Read(ref _current)?.Name ?? "", "Comparing"));
                }
            }
        }
        catch
        {
            // Whoever shows the progress may throw, to stop or by mistake: the workers must be gone before what they use is.
            _stop.Cancel();
            Array.ForEach(threads, t => t.Join());
            throw;
        }

        _failure?.Throw();
    }

    private void Work()
    {
        try
        {
            while (!_stop.IsCancellationRequested && Next() is var (tensor, piece))
            {
                Volatile.Write(ref _current, tensor);
                tensor.Run(piece);
                Interlocked.Add(ref _done, tensor.Bytes / tensor.Pieces);
            }
        }
#pragma warning disable CA1031 // rethrown on the caller's thread: the first failure is the one that counts
        catch (Exception e)
#pragma warning restore CA1031
        {
            Interlocked.CompareExchange(ref _failure, ExceptionDispatchInfo.Capture(e), null);
            _stop.Cancel();
        }
    }

    private (TensorVerification Tensor, int Piece)? Next()
    {
        lock (_gate)
        {
            return _pieces.MoveNext() ? _pieces.Current : null;
        }
    }
}
