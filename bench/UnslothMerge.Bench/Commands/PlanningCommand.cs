namespace UnslothMerge.Bench.Commands;

/// <summary><c>planning</c>: what it takes to plan a merge into a base of many tensors, and to save one.</summary>
internal static class PlanningCommand
{
    private const string Llama = "405b";
    private const long MaxShardBytes = 5_000_000_000;

    // Larger ones would take as much room as they have bytes, once they are merged.
    private const long MaxSavedBytes = 1_000_000_000;

    public static Command Create()
    {
        var bases = new Option<string[]>("--bases")
        {
            Description = "The bases to plan.",
            DefaultValueFactory = _ => [Llama, .. ExpertShape.Known.Select(s => s.Name)],
            AllowMultipleArgumentsPerToken = true,
        };
        var limit = new Option<string>("--limit")
        {
            Description = "-MaximumMemoryUsage of the save.", DefaultValueFactory = _ => "512MB",
        };
        var parent = Options.Directory();
        var command = new Command("planning", "Plans merges into bases without data, and saves the small ones.")
        {
            bases, limit, parent,
        };
        command.SetAction((parsed, cancellation) => Options.Within(parsed.GetValue(parent)!, directory =>
        {
            Console.WriteLine("| base | plan s | peak MB | save s | planned MB | peak MB |\n|---|---:|---:|---:|---:|---:|");
            foreach (var name in parsed.GetValue(bases)!)
            {
                cancellation.ThrowIfCancellationRequested();
                var (model, adapter) = (Path.Combine(directory, name), Path.Combine(directory, $"{name}-lora"));
                Generate(name, model, adapter, cancellation);
                var bytes = Directory.EnumerateFiles(model).Sum(f => new FileInfo(f).Length);
                var plan = Plan(model, adapter);
                var save = bytes > MaxSavedBytes ? ["", "", ""]
                    : Save(model, adapter, Path.Combine(directory, "out"), parsed.GetValue(limit)!);
                Console.WriteLine($"| {name} | {string.Join(" | ", plan.Concat(save))} |");
                Directory.Delete(model, recursive: true);
            }
        }));
        return command;
    }

    private static void Generate(string name, string model, string adapter, CancellationToken cancellation)
    {
        if (name == Llama)
        {
            var shape = ModelShape.Of(name);
            ModelGenerator.Generate(shape, model, TensorType.BF16, MaxShardBytes, sparse: true, cancellation);
            AdapterGenerator.Generate(shape, 1, adapter, TensorType.BF16, dora: false, sparse: false, cancellation);
        }
        else
        {
            ExpertShape.Known.First(s => s.Name == name).Generate(model, adapter, cancellation);
        }
    }

    // The first merge of a session compiles code that all use.
    private static string[] Plan(string model, string adapter)
    {
        var fixtures = PowerShellProcess.Quote(Path.Combine(Path.GetDirectoryName(PowerShellProcess.Module)!, "tests", "Fixtures"));
        return PowerShellProcess.Run($$"""
            $fixtures = {{fixtures}}
            $null = Merge-LoraModel $fixtures/bases/llama-bf16 $fixtures/cases/lora-all-linear/adapter
            $clock = [Diagnostics.Stopwatch]::StartNew()
            Merge-LoraModel {{PowerShellProcess.Quote(model)}} {{PowerShellProcess.Quote(adapter)}} | Out-Null
            $seconds = $clock.Elapsed.TotalSeconds
            $peak = [Diagnostics.Process]::GetCurrentProcess().PeakWorkingSet64
            [Console]::WriteLine(('{{PowerShellProcess.Mark}} {0:F2} {1:F0}' -f $seconds, ($peak / 1e6)))
            """).Figures;
    }

    private static string[] Save(string model, string adapter, string output, string limit)
    {
        var (@base, lora) = (PowerShellProcess.Quote(model), PowerShellProcess.Quote(adapter));
        var destination = PowerShellProcess.Quote(output);
        var figures = PowerShellProcess.Run($$"""
            $clock = [Diagnostics.Stopwatch]::StartNew()
            $planned = 0
            try {
                Merge-LoraModel {{@base}} {{lora}} |
                    Save-MergedModel {{destination}} -NoSync -MaximumMemoryUsage {{limit}} -Verbose 4>&1 | ForEach-Object {
                        if ("$_" -match 'workers, at most (\S+ \S+) of memory') { $planned = $Matches[1] -replace ' ' }
                    }
                $seconds = '{0:F2}' -f $clock.Elapsed.TotalSeconds
            }
            catch {
                if ($_.FullyQualifiedErrorId -notlike 'DoesNotFit,*') { throw }
                $seconds = 'refused'
            }
            $peak = [Diagnostics.Process]::GetCurrentProcess().PeakWorkingSet64
            [Console]::WriteLine(('{{PowerShellProcess.Mark}} {0} {1} {2:F0}' -f $seconds, $planned, ($peak / 1e6)))
            """).Figures;
        if (Directory.Exists(output))
        {
            Directory.Delete(output, recursive: true);
        }

        return figures;
    }
}
