namespace UnslothMerge.Bench.Commands;

/// <summary><c>memory</c>: what the memory plan promises, beside what the process then takes.</summary>
internal static class MemoryCommand
{
    private const long MaxShardBytes = 5_000_000_000;

    public static Command Create()
    {
        var shape = Options.Shape();
        var rank = new Option<int>("--rank") { Description = "The adapter's rank.", DefaultValueFactory = _ => 16 };
        var layers = new Option<int?>("--layers") { Description = "Writes so many layers only." };
        var limits = new Option<string[]>("--limits")
        {
            Description = "Values of -MaximumMemoryUsage, besides the smallest that works.",
            DefaultValueFactory = _ => ["0.75", "400MB"],
            AllowMultipleArgumentsPerToken = true,
        };
        var workers = new Option<int[]>("--workers")
        {
            Description = "Values of -ThrottleLimit.",
            DefaultValueFactory = _ => [2, 64],
            AllowMultipleArgumentsPerToken = true,
        };
        var parent = Options.Directory();

        var command = new Command("memory", "Merges under several limits of memory, and sets the planned peak beside the measured one.")
        {
            shape, rank, layers, limits, workers, parent,
        };
        command.SetAction((parsed, cancellation) => Options.Within(parsed.GetValue(parent)!, directory =>
        {
            var size = ModelShape.Of(parsed.GetValue(shape)!);
            var (model, adapter) = (Path.Combine(directory, size.Name), Path.Combine(directory, "lora"));
            ModelGenerator.Generate(size, model, TensorType.BF16, MaxShardBytes, sparse: true, cancellation);
            AdapterGenerator.Generate(size, parsed.GetValue(rank), adapter, TensorType.F32, dora: false, sparse: true, cancellation);

            // The smallest is what the plan itself advises; with less it must refuse.
            var smallest = long.Parse(Run(model, adapter, directory, "1MB", 1, null).Enough, CultureInfo.InvariantCulture);
            string[] small = [$"{smallest}", $"{smallest * 8 / 10}"];
            Console.WriteLine("| limit | most workers | workers | planned MB | measured MB |\n|---|---:|---:|---:|---:|");
            foreach (var most in parsed.GetValue(workers)!)
            {
                foreach (var limit in parsed.GetValue(limits)!.Concat(small))
                {
                    cancellation.ThrowIfCancellationRequested();
                    var (_, used, planned, measured) = Run(model, adapter, directory, limit, most, parsed.GetValue(layers));
                    var given = long.TryParse(limit, out var bytes) ? ByteSize.Text(bytes) : limit;
                    Console.WriteLine($"| {given} | {most} | {used} | {Megabytes(planned)} | {Megabytes(measured)} |");
                }
            }
        }));
        return command;
    }

    private static (string Enough, string Workers, string Planned, string Measured) Run(
        string model, string adapter, string directory, string limit, int workers, int? layers)
    {
        var output = Path.Combine(directory, "out");
        var (@base, lora) = (PowerShellProcess.Quote(model), PowerShellProcess.Quote(adapter));
        var destination = PowerShellProcess.Quote(output);
        var filter = layers is { } count ? $"| Where-Object {{ $_.Layer -in 0..{count - 1} }}" : "";
        var figures = PowerShellProcess.Run($$"""
            $run = @{ MaximumMemoryUsage = '{{limit}}'; ThrottleLimit = {{workers}} }
            $plan = Get-MergeMemoryPlan {{@base}} {{lora}} -Destination {{destination}} @run
            $peak = 'refused'
            try {
                $null = Merge-LoraModel {{@base}} {{lora}} {{filter}} | Save-MergedModel {{destination}} -NoSync -AllowPartial @run
                $peak = [Diagnostics.Process]::GetCurrentProcess().PeakWorkingSet64
            }
            catch {
                if ($_.FullyQualifiedErrorId -notlike 'DoesNotFit,*') { throw }
            }

            $enough = [long] ($plan.PeakHostBytes * 1.05)
            [Console]::WriteLine("{{PowerShellProcess.Mark}} $enough $($plan.Workers) $($plan.PeakHostBytes) $peak")
            """).Figures;
        if (Directory.Exists(output))
        {
            Directory.Delete(output, recursive: true);
        }

        return (figures[0], figures[1], figures[2], figures[3]);
    }

    private static string Megabytes(string text) =>
        long.TryParse(text, CultureInfo.InvariantCulture, out var bytes) ? ResultTable.Megabytes(bytes) : text;
}
