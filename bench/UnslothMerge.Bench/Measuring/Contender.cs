namespace UnslothMerge.Bench.Measuring;

/// <summary>Something that makes a model directory out of a base, and is measured doing so.</summary>
internal abstract record Contender(string Name, bool Sync)
{
    /// <summary>Makes the directory, which does not exist.</summary>
    public abstract Measurement Run(string output);

    /// <summary>Brings the output to the disk, if that was promised, and says how many seconds it took.</summary>
    protected double Flush(string output)
    {
        var clock = Stopwatch.StartNew();
        if (Sync)
        {
            SystemDisk.Instance.FlushTree(output);
        }

        return clock.Elapsed.TotalSeconds;
    }
}
