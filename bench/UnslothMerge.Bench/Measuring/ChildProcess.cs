namespace UnslothMerge.Bench.Measuring;

/// <summary>Runs a program to its end.</summary>
internal static class ChildProcess
{
    /// <summary>Runs a program and gives what it wrote to its standard output, and how long it took from start to end.</summary>
    public static (string Output, double Seconds) Run(string program, params IEnumerable<string> arguments)
    {
        var clock = Stopwatch.StartNew();
        var start = new ProcessStartInfo(program, arguments) { RedirectStandardOutput = true, RedirectStandardError = true };
        start.Environment["POWERSHELL_TELEMETRY_OPTOUT"] = "1";
        using var process = Process.Start(start)!;
        var error = process.StandardError.ReadToEndAsync();
        var output = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        var seconds = clock.Elapsed.TotalSeconds;
        return process.ExitCode == 0
            ? (output, seconds)
            : throw new InvalidOperationException($"{program} failed with exit code {process.ExitCode}.\n{error.Result}{output}");
    }
}
