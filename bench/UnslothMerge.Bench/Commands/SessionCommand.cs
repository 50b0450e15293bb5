namespace UnslothMerge.Bench.Commands;

/// <summary><c>session</c>: what PowerShell, the import and the first commands take, apart from the work.</summary>
internal static class SessionCommand
{
    private static readonly string[] Steps = ["start of pwsh", "import", "first merge", "second merge"];

    public static Command Create()
    {
        var command = new Command("session", "Starts PowerShell, imports the module and merges a tiny adapter twice.") { Options.Rounds };
        command.SetAction((parsed, cancellation) => Options.Within(Path.GetTempPath(), directory =>
        {
            var rounds = new double[parsed.GetValue(Options.Rounds)][];
            for (var round = -1; round < rounds.Length; round++)
            {
                cancellation.ThrowIfCancellationRequested();
                var seconds = Measure(Path.Combine(directory, $"{round}"));
                if (round >= 0)
                {
                    rounds[round] = seconds;
                }
            }

            ResultTable.Print([
                ["", "median s", "min s"],
                .. Steps.Select((step, i) => Row(step, [.. rounds.Select(r => r[i])])),
            ]);
        }));
        return command;
    }

    private static string[] Row(string step, double[] seconds) =>
        [step, ResultTable.Text(ResultTable.Median(seconds)), ResultTable.Text(seconds.Min())];

    // A session that does nothing is the start of one, and its end.
    private static double[] Measure(string output)
    {
        var fixtures = PowerShellProcess.Quote(Path.Combine(Path.GetDirectoryName(PowerShellProcess.Module)!, "tests", "Fixtures"));
        var (figures, _) = PowerShellProcess.Run($$"""
            $fixtures = {{fixtures}}
            $figures = foreach ($i in 1, 2) {
                $clock = [Diagnostics.Stopwatch]::StartNew()
                $null = Merge-LoraModel $fixtures/bases/llama-bf16 $fixtures/cases/lora-all-linear/adapter |
                    Save-MergedModel "{{output}}-$i" -NoSync
                $clock.Elapsed.TotalSeconds
            }
            [Console]::WriteLine("{{PowerShellProcess.Mark}} $importSeconds $figures")
            """);
        return [PowerShellProcess.Start("").Seconds, .. figures.Select(f => double.Parse(f, CultureInfo.InvariantCulture))];
    }
}
