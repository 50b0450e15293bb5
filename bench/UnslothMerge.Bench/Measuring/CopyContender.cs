namespace UnslothMerge.Bench.Measuring;

/// <summary>The system's own copy of the base: the yardstick.</summary>
internal sealed record CopyContender(string Base, bool Sync) : Contender(OperatingSystem.IsWindows() ? "xcopy" : "cp -r", Sync)
{
    public override Measurement Run(string output)
    {
        var (_, seconds) = OperatingSystem.IsWindows()
            ? ChildProcess.Run("xcopy", Base, output, "/E", "/I", "/Q")
            : ChildProcess.Run("cp", "-r", Base, output);
        seconds += Flush(output);
        return new Measurement(seconds, seconds, null);
    }
}
