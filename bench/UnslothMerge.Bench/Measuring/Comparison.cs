namespace UnslothMerge.Bench.Measuring;

/// <summary>
/// Runs contenders in interleaved rounds, so that what else the machine does meets all of them, with another one first in every round,
/// and backwards in every second one.
/// Deletions and the first reading of the inputs are off the clock.
/// </summary>
internal static class Comparison
{
    /// <summary>Measures each contender once per round, after one round that does not count; what runs before each does not either. Gives
    /// the measurements of each contender, by round.</summary>
    public static Measurement[][] Run(
        IReadOnlyList<Contender> contenders, int rounds, Contender? before, string directory, CancellationToken cancellation)
    {
        var results = contenders.Select(_ => new Measurement[rounds]).ToArray();
        for (var round = -1; round < rounds; round++)
        {
            Console.Error.WriteLine(round < 0 ? "warming up" : $"round {round + 1} of {rounds}");
            for (var i = 0; i < contenders.Count; i++)
            {
                cancellation.ThrowIfCancellationRequested();
                var turn = (i + Math.Max(round, 0)) % contenders.Count;
                turn = round % 2 == 1 ? contenders.Count - 1 - turn : turn;
                _ = before is null ? default : RunOnce(before, directory);
                var measurement = RunOnce(contenders[turn], directory);
                if (round >= 0)
                {
                    results[turn][round] = measurement;
                }
            }
        }

        return results;
    }

    private static Measurement RunOnce(Contender contender, string directory)
    {
        var output = Path.Combine(directory, $"bench-{Guid.NewGuid():N}");
        try
        {
            return contender.Run(output);
        }
        finally
        {
            if (Directory.Exists(output))
            {
                Directory.Delete(output, recursive: true);
            }

            // The file system has forgotten the output before the next one starts.
            SystemDisk.Instance.FlushDirectory(directory);
        }
    }
}
