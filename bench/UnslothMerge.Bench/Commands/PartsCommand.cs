using UnslothMerge.Adapters;
using UnslothMerge.Execution;
using UnslothMerge.Files;
using UnslothMerge.Models;
using UnslothMerge.Planning;
using UnslothMerge.Saving;
using UnslothMerge.Saving.Parts;

namespace UnslothMerge.Bench.Commands;

/// <summary><c>parts</c>: one model by one worker, and by several at once, each with a disk of the same speed.</summary>
internal static class PartsCommand
{
    // 16 layers of about 7 MB and little beside them: where shards cannot be shared out evenly is another question than what workers lose
    // to each other, and the table says what the sizes allow.
    private static readonly ModelShape Shape = new("even", 512, 2048, 16, 8, 2, 64, 64, true, 8);

    // No tensor is larger: one would get a shard of its own, and the others would not end where layers do.
    private const long MaxShardBytes = 2_200_000;

    public static Command Create()
    {
        var rate = new Option<double>("--rate") { Description = "Megabytes per second of a worker.", DefaultValueFactory = _ => 1 };
        var counts = new Option<int[]>("--parts")
        {
            Description = "Numbers of workers.",
            DefaultValueFactory = _ => [1, 16],
            AllowMultipleArgumentsPerToken = true,
        };
        var parent = Options.Directory();
        var command = new Command("parts", "Saves a model by several workers at once, whose disks are slow, and compares.")
        {
            rate, counts, parent,
        };
        command.SetAction((parsed, cancellation) => Options.Within(parsed.GetValue(parent)!, directory =>
        {
            var (model, adapter) = (Path.Combine(directory, Shape.Name), Path.Combine(directory, "lora"));
            ModelGenerator.Generate(Shape, model, TensorType.BF16, MaxShardBytes, sparse: true, cancellation);
            AdapterGenerator.Generate(Shape, 16, adapter, TensorType.F32, dora: false, sparse: true, cancellation);
            Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"""
                Each worker writes {parsed.GetValue(rate)} MB/s, from its first header to its last record. All of them share this machine's
                {Environment.ProcessorCount} processors, which many machines do not: what that costs is in "planning", and in what is left.

                | workers | slowest, s | planning, s | times faster | at most, by the sizes of the shards | completing, s |
                |---:|---:|---:|---:|---:|---:|
                """));
            var one = 0.0;
            foreach (var count in parsed.GetValue(counts)!)
            {
                var output = Path.Combine(directory, $"out{count}");
                var workers = Enumerable.Range(1, count).Select(n => Task.Factory.StartNew(
                    () => Work(model, adapter, output, new Part(n, count), parsed.GetValue(rate) * 1e6, cancellation),
                    cancellation, TaskCreationOptions.LongRunning, TaskScheduler.Default)).ToArray();
                var results = Task.WhenAll(workers).GetAwaiter().GetResult();
                var slowest = results.Max(r => r.Whole);
                one = one == 0 ? slowest : one;
                var clock = Stopwatch.StartNew();
                new ModelCompletion(SavedParts.Find(output), force: false)
                    .Complete(SystemDisk.Instance, sync: false, 2, null, cancellation);
                Console.WriteLine(string.Create(CultureInfo.InvariantCulture,
                    $"| {count} | {slowest:F2} | {results.Max(r => r.Planning):F2} | {one / slowest:F1} "
                    + $"| {(double)results.Sum(r => r.Bytes) / results.Max(r => r.Bytes):F1} | {clock.Elapsed.TotalSeconds:F2} |"));
            }
        }));
        return command;
    }

    // From the headers to the last record, as each worker does it.
    private static (double Whole, double Planning, long Bytes) Work(
        string model, string adapter, string output, Part part, double rate, CancellationToken cancellation)
    {
        var clock = Stopwatch.StartNew();
        var merge = MergePlanner.Plan(ModelDirectory.Open(model), [new AdapterStep(AdapterDirectory.Open(adapter), 1)]);
        var plan = WritePlan.Create(merge, merge.Tensors, new WriteOptions(null, MaxShardBytes));
        var destination = Destination.Check(output, [("base", model)], force: false);
        var extras = ModelExtras.For(plan, destination, "merged_16bit", new ExtrasOptions());
        var run = new RunOptions(ExecutionPlan.For(plan, new MemoryLimit(long.MaxValue), workers: 1), Sync: false)
        {
            Disk = new SlowDisk(rate),
        };
        var planning = clock.Elapsed.TotalSeconds;
        var shards = new PartOnDisk(extras, destination, "merged_16bit", part, run).Save(null, cancellation);
        return (clock.Elapsed.TotalSeconds, planning, shards.Sum(s => s.Bytes));
    }
}
