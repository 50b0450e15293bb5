using System.Runtime.ExceptionServices;
using UnslothMerge.Simd;

namespace UnslothMerge.Execution;

/// <summary>Measures the relative changes that a save would measure on its way, and writes nothing.</summary>
internal static class ChangeMeasurement
{
    /// <summary>‖Δ‖ / ‖W‖ of every tensor that deltas are added to, by name. A plan without quantization measures the same.</summary>
    public static IReadOnlyDictionary<string, double> Measure(ExecutionPlan plan, CancellationToken cancellation)
    {
        using var files = new InputFiles(plan.SharedBytes);
        using var buffers = new ThreadLocal<WorkerBuffers>(() => new WorkerBuffers(plan.WorkerBytes), trackAllValues: true);
        var changed = plan.Write.Tensors.Where(t => t.Tensor.Terms.Length > 0).ToList();
        var results = new double[changed.Count];
        try
        {
            Parallel.For(
                0, changed.Count, new ParallelOptions { MaxDegreeOfParallelism = plan.Workers, CancellationToken = cancellation },
                i => results[i] = Measure(changed[i], files, buffers.Value!, cancellation));
            return changed.Zip(results).ToDictionary(c => c.First.Tensor.Name, c => c.Second, StringComparer.Ordinal);
        }
        catch (AggregateException e)
        {
            ExceptionDispatchInfo.Throw(e.InnerExceptions[0]);
            throw;
        }
        finally
        {
            foreach (var worker in buffers.Values)
            {
                worker.Dispose();
            }
        }
    }

    private static double Measure(WriteTensor write, InputFiles files, WorkerBuffers buffers, CancellationToken cancellation)
    {
        using var opened = new OpenedTensor(write, files, new NoOutput(), 1);
        var all = default(TileStatistics);
        for (var row = 0L; row < write.Tensor.View.Rows; row += write.Tiling.Rows)
        {
            cancellation.ThrowIfCancellationRequested();
            _ = opened.Merge(row, (int)Math.Min(write.Tiling.Rows, write.Tensor.View.Rows - row), buffers, out var statistics);
            all.Add(statistics);
        }

        return all.DeltaSquares == 0 ? 0 : Math.Sqrt(all.DeltaSquares / all.WeightSquares);
    }

    private sealed class NoOutput : IOutput
    {
        public void Write(int output, long start, ReadOnlySpan<byte> bytes)
        {
        }
    }
}
