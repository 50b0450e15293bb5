namespace UnslothMerge.Bench.Measuring;

/// <summary>The system's own copy of the base: the yardstick.</summary>
internal sealed record CopyContender(string Base, bool Sync) : Contender(OperatingSystem.IsWindows() ? "xcopy" : "cp -r", Sync)
{
    /// <summary>Options of cp.</summary>
    public string[] Options { get; init; } = [];

    public override Measurement Run(string output)
    {
        var (_, seconds) = OperatingSystem.IsWindows()
            ? ChildProcess.Run("xcopy", Base, output, "/E", "/I", "/Q")
            : ChildProcess.Run("cp", ["-r", .. Options, Base, output]);
        seconds += Flush(output);
        return new Measurement(seconds, seconds, null);
    }
}
