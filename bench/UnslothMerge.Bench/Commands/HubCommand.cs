using UnslothMerge.Tests.Hub.StandIn;

namespace UnslothMerge.Bench.Commands;

/// <summary><c>hub</c>: a merge straight from the Hub and back, against fetching, merging and publishing one after the other.</summary>
internal static class HubCommand
{
    private const string Base = "org/base", Adapter = "org/adapter", Out = "org/out", MaxShard = "500MB";

    public static Command Create()
    {
        var (shape, parent) = (Options.Shape(), Options.Directory());
        var rate = new Option<double>("--rate")
        {
            Description = "Megabytes per second of the line, in each direction.", DefaultValueFactory = _ => 80,
        };
        var command = new Command("hub", "Merges on a line of a given rate to a Hub on this machine, with and without storing anything.")
        {
            shape, rate, parent,
        };
        command.SetAction((parsed, cancellation) => Options.Within(parsed.GetValue(parent)!, directory =>
        {
            var size = ModelShape.Of(parsed.GetValue(shape)!);
            var (model, adapter) = (Path.Combine(directory, "base"), Path.Combine(directory, "adapter"));
            _ = ByteSize.TryParse(MaxShard, out var limit);
            var bytes = ModelGenerator.Generate(size, model, TensorType.BF16, limit, sparse: false, cancellation);
            AdapterGenerator.Generate(size, 16, adapter, TensorType.F32, dora: false, sparse: false, cancellation);
            var repositories = new[] { (Base, Files(model)), (Adapter, Files(adapter)) };
            Directory.Delete(model, recursive: true);
            Directory.Delete(adapter, recursive: true);
            var megabytes = parsed.GetValue(rate);
            Console.WriteLine(string.Create(CultureInfo.InvariantCulture,
                $"Llama {size.Name}, {ByteSize.Text(bytes)} of BF16 in shards of {MaxShard}, rank 16; a line of {megabytes} MB/s, which "
                + $"takes {bytes / megabytes / 1e6:F1} s each way; {Environment.ProcessorCount} processors, shared with the Hub\n"));
            var steps = Measure("""
                $null = Merge-LoraModel org/base org/adapter | Save-MergedModel $out -MaxShardSize 500MB
                $null = Publish-MergedModel $out org/out
                """);
            var straight = Measure("""
                $null = Merge-LoraModel org/base org/adapter -Stream |
                    Save-MergedModel -PushToHub org/out -MaxShardSize 500MB -TemporaryLocation $temporary
                """);
            if (!steps.Hashes.SequenceEqual(straight.Hashes))
            {
                throw new InvalidOperationException("The two models differ.");
            }

            ResultTable.Print([
                ["what", "s", "/ step by step", "/ the line, one way", "peak disk MB", "/ model", "peak memory MB"],
                Row("fetch and merge, then publish", steps), Row("-Stream -PushToHub", straight),
            ]);

            (double Seconds, long Disk, long Memory, List<string?> Hashes) Measure(string script)
            {
                cancellation.ThrowIfCancellationRequested();
                using var hub = new HubServer { Line = new HubLine(megabytes * 1e6) };
                hub.Objects.PartSize = 64 * 1024 * 1024;
                foreach (var (id, files) in repositories)
                {
                    hub.Add(id, files);
                }

                using var disk = new DiskPeak(directory);
                var (figures, _) = PowerShellProcess.Run($"""
                    {string.Join('\n', hub.Environment(Path.Combine(directory, "home")).Select(v => $"$env:{v.Name} = '{v.Value}'"))}
                    $out, $temporary = {PowerShellProcess.Quote(Path.Combine(directory, "out"))}, {PowerShellProcess.Quote(directory)}
                    $clock = [Diagnostics.Stopwatch]::StartNew()
                    {script}
                    $seconds = $clock.Elapsed.TotalSeconds
                    [Console]::WriteLine("{PowerShellProcess.Mark} $seconds $([Diagnostics.Process]::GetCurrentProcess().PeakWorkingSet64)")
                    """);
                Directory.EnumerateDirectories(directory).ToList().ForEach(d => Directory.Delete(d, recursive: true));
                return (double.Parse(figures[0], CultureInfo.InvariantCulture), disk.Bytes,
                    long.Parse(figures[1], CultureInfo.InvariantCulture),
                    [.. hub.Repositories[Out].Head.Files.Values.Where(f => f.Lfs is not null).Select(f => f.Lfs)]);
            }

            string[] Row(string name, (double Seconds, long Disk, long Memory, List<string?>) run) =>
            [
                name, ResultTable.Text(run.Seconds), ResultTable.Text(run.Seconds / steps.Seconds),
                ResultTable.Text(run.Seconds / (bytes / megabytes / 1e6)), ResultTable.Megabytes(run.Disk),
                ResultTable.Text((double)run.Disk / bytes), ResultTable.Megabytes(run.Memory),
            ];
        }));
        return command;
    }

    private static (string, byte[])[] Files(string directory) =>
        [.. Directory.EnumerateFiles(directory).Select(f => (Path.GetFileName(f), File.ReadAllBytes(f)))];
}
