using System.Collections.Concurrent;
using System.Numerics;
using System.Runtime.ExceptionServices;
using UnslothMerge.Execution;

namespace UnslothMerge.Saving;

/// <summary>
/// How much of its delta a quantized tensor keeps: ⟨Q(W+Δ) − Q(W), Δ⟩ / ‖Δ‖². Small deltas fall between two codes. Q(W) and W+Δ in F32 are
/// written beside the saved model, by the code of every save, and removed again.
/// </summary>
internal static class DeltaSurvival
{
    private const string FolderName = ".survival";

    // So many elements are measured, in tensors spread over the model: all of a small one.
    private const long MaxElements = 64_000_000;

    private const int ChunkElements = 1 << 18;

    /// <summary>The disk space that measuring takes, at most.</summary>
    public static long BytesFor(WritePlan plan) => Sample(plan).Sum(t => (sizeof(float) * t.Tensor.View.Count) + t.Bytes);

    /// <summary>Both sums of each measured tensor of a model that has just been written into a directory, by name.</summary>
    public static IReadOnlyDictionary<string, (double Kept, double Whole)> Measure(WritePlan plan, string directory, RunOptions options,
        CancellationToken cancellation)
    {
        var sums = new ConcurrentDictionary<string, (double, double)>(StringComparer.Ordinal);
        var sample = Sample(plan);
        if (sample.Count == 0)
        {
            return sums;
        }

        try
        {
            var shapes = plan.Merge.Tensors.ToDictionary(t => t.Name, t => t.Shape, StringComparer.Ordinal);
            var exact = Save(plan.Of(sample.Select(t =>
                (t.Tensor, (TensorSink)new PlainSink(t.Tensor.Name, TensorType.F32, t.Tensor.Shape)))), directory, "exact", options,
                cancellation).Checkpoint;
            var before = Sources(Save(plan.Of(sample.Select(t => (t.Tensor.WithStrength(0), t.Sink))), directory, "before", options,
                cancellation));
            var after = Sources(ModelDirectory.Open(directory));
            using var files = new InputFiles(disk: options.Disk);
            var parallel = new ParallelOptions { MaxDegreeOfParallelism = options.Plan.Workers, CancellationToken = cancellation };
            Parallel.ForEach(sample, parallel, t =>
            {
                var name = t.Tensor.Name;
                sums[name] = Sums(files, Find(after, name), Find(before, name), new PlainSource(exact.Find(name)!), t.Tensor.Source);
            });
            return sums;

            // Experts may be stored one by one.
            TensorSource Find(Dictionary<string, TensorSource> model, string name) => model.GetValueOrDefault(name)
                ?? FusedExperts.Of(name, shapes.GetValueOrDefault)!.Stack(model.GetValueOrDefault)!;
        }
        catch (AggregateException e)
        {
            ExceptionDispatchInfo.Throw(e.InnerExceptions[0]);
            throw;
        }
        finally
        {
            options.Disk.DeleteIfThere(Path.Combine(directory, FolderName));
        }
    }

    private static List<WriteTensor> Sample(WritePlan plan)
    {
        var all = plan.Tensors.Where(t =>
            t.Sink is { IsQuantized: true, RoundsTrip: false }
            && t.Tensor is { Action: TensorAction.Merge, View.Count: <= MaxElements }).ToList();
        var step = (int)((all.Sum(t => t.Tensor.View.Count) / MaxElements) + 1);
        return [.. all.Where((_, i) => i % step == 0)];
    }

    // The formats are found by the configs of the model itself.
    private static ModelDirectory Save(WritePlan plan, string model, string name, RunOptions options,
        CancellationToken cancellation)
    {
        var directory = Path.Combine(model, FolderName, name);
        options.Disk.CreateTree(directory);
        foreach (var config in Directory.EnumerateFiles(model, "*config.json"))
        {
            options.Disk.Copy(config, Path.Combine(directory, Path.GetFileName(config)));
        }

        var run = new RunOptions(ExecutionPlan.For(plan, new MemoryLimit(long.MaxValue), options.Plan.Workers), Sync: false)
        {
            Disk = options.Disk,
        };
        ModelSaver.WriteShards(directory, run, [], null, null, cancellation);
        return ModelDirectory.Open(directory);
    }

    private static Dictionary<string, TensorSource> Sources(ModelDirectory model) =>
        StoredFormats.Read(model).ToDictionary(t => t.Name, t => t.Source, StringComparer.Ordinal);

    private static (double Kept, double Whole) Sums(InputFiles files, params TensorSource[] sources)
    {
        var view = MatrixView.Of(sources[0].Shape);
        var quantum = sources.Aggregate(1, (all, s) => all * s.RowQuantum / (int)BigInteger.GreatestCommonDivisor(all, s.RowQuantum));
        var rows = Math.Max(1, ChunkElements / Math.Max(view.Columns, 1) / quantum) * quantum;
        var readers = Array.ConvertAll(sources, s => s.Open(files, view));
        var values = Array.ConvertAll(sources, _ => new float[rows * view.Columns]);
        var (kept, whole) = (0.0, 0.0);
        for (var row = 0L; row < view.Rows; row += rows)
        {
            var count = (int)Math.Min(rows, view.Rows - row);
            for (var i = 0; i < sources.Length; i++)
            {
                var stored = new byte[sources[i].BytesOf(view, count)];
                readers[i].Read(row, count, stored);
                readers[i].Decode(stored, row, count, new Tile(values[i].AsSpan(0, count * view.Columns), default, row, count, 0,
                    view.Columns));
            }

            for (var i = 0; i < count * view.Columns; i++)
            {
                var delta = (double)values[2][i] - values[3][i];
                kept += (values[0][i] - values[1][i]) * delta;
                whole += delta * delta;
            }
        }

        Array.ForEach(readers, r => r.Dispose());
        return (kept, whole);
    }
}
