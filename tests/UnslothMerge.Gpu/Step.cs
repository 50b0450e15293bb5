namespace UnslothMerge.Gpu;

/// <summary>One part of the check, in a process of its own: what crashes or hangs ends no other.</summary>
internal sealed record Step(string Name, int Seconds, Action<Settings> Do)
{
    /// <summary>All of them, in order.</summary>
    public static IReadOnlyList<Step> All { get; } =
    [
        new("probe", 60, DeviceChecks.Probe),
        new("goldens", 90, DeviceChecks.Goldens),
        new("limits", 60, MemoryChecks.Limits),
        new("full memory", 60, MemoryChecks.FullMemory),
        new("no room", 60, MemoryChecks.NoRoom),
        new("table", Table.Seconds, Table.Measure),
    ];

    /// <summary>Runs all steps; without a device that works, only the first.</summary>
    public static int RunAll(Settings settings)
    {
        var clock = Stopwatch.StartNew();
        var failed = new List<string>();
        foreach (var step in All.TakeWhile(s => s == All[0] || failed is not ["probe", ..]))
        {
            Console.WriteLine($"\n== {step.Name}");
            var exit = step.RunAlone(settings);
            var result = exit == 0 ? "passed" : $"FAILED, exit code {exit}";
            Console.WriteLine($"== {step.Name}: {result}, {clock.Elapsed.TotalSeconds:F1} s in all");
            failed.AddRange(exit == 0 ? [] : [step.Name]);
        }

        Console.WriteLine(failed.Count == 0 ? "\nAll steps passed." : $"\nFailed: {string.Join(", ", failed)}.");
        return failed.Count == 0 ? 0 : 1;
    }

    /// <summary>Runs it in this process and prints what fails with all its causes.</summary>
    public int Run(Settings settings)
    {
        try
        {
            Do(settings);
            return 0;
        }
        catch (Exception e)
        {
            Console.WriteLine($"FAILED: {e}\n{(e as MergeException)?.Advice}");
            return 1;
        }
    }

    private int RunAlone(Settings settings)
    {
        using var process = Process.Start(Environment.ProcessPath!, ["--step", Name, .. settings.Arguments]);
        if (!process.WaitForExit(TimeSpan.FromSeconds(Seconds)))
        {
            Console.WriteLine($"It is stopped after {Seconds} s.");
            process.Kill(entireProcessTree: true);
            process.WaitForExit();
        }

        return process.ExitCode;
    }
}
