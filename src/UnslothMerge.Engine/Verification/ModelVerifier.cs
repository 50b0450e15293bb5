using System.Collections.Concurrent;
using System.Runtime.ExceptionServices;
using UnslothMerge.Execution;
using UnslothMerge.Saving;
using UnslothMerge.Verification.References;

namespace UnslothMerge.Verification;

/// <summary>Whether every element is compared or samples of every tensor, and the number of threads.</summary>
internal sealed record VerificationOptions(bool Full, int Workers)
{
    /// <summary>A directory whose tokenizer was saved instead of the adapter's or the base's.</summary>
    public string? Tokenizer { get; init; }
}

/// <summary>Opens a saved model and checks that its structure and numbers are those of base and adapters: in float64, by formulas of its
/// own (see <see cref="Reference"/>), without the executor, the kernels and the terms that made it.</summary>
internal static class ModelVerifier
{
    private const int Seed = 0x5eed;

    private static readonly TimeSpan ProgressInterval = TimeSpan.FromMilliseconds(100);

    /// <summary>Verifies an output against tensors in the plan's order, with the caller's strengths. Progress is reported on this thread,
    /// about ten times a second.</summary>
    public static IReadOnlyList<VerificationResult> Verify(
        MergePlan plan,
        IReadOnlyList<LogicalTensor> tensors,
        string path,
        VerificationOptions options,
        IProgress<MergeProgress>? progress,
        CancellationToken cancellation)
    {
        var output = new OutputModel(path);
        output.Stack(plan.Tensors);
        var carried = CarriedFiles.ForModel(plan.Base.Path, [.. plan.Steps.Select(s => s.Adapter.Path)], options.Tokenizer);
        using var files = new InputFiles();
        var placement = new PlacementChecks(plan, output, files);
        List<VerificationResult> structure =
        [
            .. LostFilesCheck.Run(output.Path), .. new StructureChecks(plan, tensors, output).Run(), .. placement.Run(),
            TokenizerCheck.Run(plan, output, carried.Keys),
            CarriedCheck.Run(carried, output.Path),
            .. ReaderCheck.Run(output, plan.Base) is { } reader ? [reader] : (VerificationResult[])[],
        ];
        var quantization = JsonNode.DeepEquals(output.Config?.Quantization, plan.Base.Config.Quantization) ? null
            : output.Config?.Quantization;
        var builder = new ReferenceBuilder(plan, placement.Expected, files);
        var comparers = tensors
            .Where(t => output.Sources.TryGetValue(t.Name, out var source)
                && source.Shape.SequenceEqual(t.Shape) && source.Type.IsPlainFloat() == t.Type.IsPlainFloat())
            .Select(
                t => new TensorComparer(
                    t, output.Sources[t.Name], files, builder, new Sampling(options.Full, unchecked(Seed + t.Ordinal)), quantization))
            .ToList();
        try
        {
            Run(comparers, Math.Max(options.Workers, 1), progress, cancellation);
            return [.. structure, .. NumberChecks.Of([.. comparers.Select(c => c.Result())], options.Full)];
        }
        finally
        {
            comparers.ForEach(c => c.Dispose());
        }
    }

    private static void Run(List<TensorComparer> comparers, int workers, IProgress<MergeProgress>? progress, CancellationToken cancellation)
    {
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        var options = new ParallelOptions { MaxDegreeOfParallelism = workers, CancellationToken = stop.Token };
        var pieces = comparers.SelectMany(c => Enumerable.Range(0, c.Pieces).Select(piece => (Comparer: c, Piece: piece)));
        var (done, total, current) = (0L, comparers.Sum(c => c.Bytes), "");
        var run = Task.Run(() => Parallel.ForEach(Partitioner.Create(pieces, EnumerablePartitionerOptions.NoBuffering), options, p =>
        {
            Volatile.Write(ref current, p.Comparer.Name);
            p.Comparer.Compare(p.Piece);
            Interlocked.Add(ref done, p.Comparer.Bytes / p.Comparer.Pieces);
        }));
        try
        {
            while (Task.WaitAny([run], ProgressInterval) < 0)
            {
                progress?.Report(new MergeProgress(Interlocked.Read(ref done), total, Volatile.Read(ref current), "Comparing"));
            }

            run.GetAwaiter().GetResult();
        }
        catch (AggregateException e) when (run.IsFaulted)
        {
            ExceptionDispatchInfo.Throw(e.InnerExceptions[0]);
        }
        finally
        {
            // The progress may throw: the workers must have ended before their files are closed.
            stop.Cancel();
            Task.WaitAny([run], CancellationToken.None);
        }
    }
}
