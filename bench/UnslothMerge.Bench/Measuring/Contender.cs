namespace UnslothMerge.Bench.Measuring;

/// <summary>Something that makes a model directory out of a base, and is measured doing so.</summary>
/// <param name="Name">What the table calls it.</param>
/// <param name="Sync">True if what it writes is on the disk when it ends.</param>
internal abstract record Contender(string Name, bool Sync)
{
    /// <summary>Makes the directory.</summary>
    /// <param name="output">A path that does not exist.</param>
    public abstract Measurement Run(string output);

    /// <summary>Brings the output to the disk, if that was promised, and says how many seconds it took.</summary>
    protected double Flush(string output)
    {
        var clock = Stopwatch.StartNew();
        if (Sync)
        {
            Durable.FlushTree(output);
        }

        return clock.Elapsed.TotalSeconds;
    }
}
