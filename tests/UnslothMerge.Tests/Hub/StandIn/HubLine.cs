namespace UnslothMerge.Tests.Hub.StandIn;

/// <summary>A line of so many bytes a second in each direction, which all connections share.</summary>
internal sealed class HubLine(double rate)
{
    // What a timer that is late may make good.
    private static readonly long Burst = Stopwatch.Frequency / 50;

    private readonly Lock _gate = new();
    private (long In, long Out) _free;

    /// <summary>Lets bytes of a request pass.</summary>
    public Task Receive(int bytes)
    {
        lock (_gate)
        {
            return Pass(ref _free.In, bytes);
        }
    }

    /// <summary>Lets an answer's body pass.</summary>
    public async Task Send(Stream stream, ReadOnlyMemory<byte> bytes)
    {
        const int piece = 256 * 1024;
        for (; bytes.Length > 0; bytes = bytes[Math.Min(piece, bytes.Length)..])
        {
            Task turn;
            lock (_gate)
            {
                turn = Pass(ref _free.Out, Math.Min(piece, bytes.Length));
            }

            await turn;
            await stream.WriteAsync(bytes[..Math.Min(piece, bytes.Length)]);
        }
    }

    private Task Pass(ref long free, int bytes)
    {
        var now = Stopwatch.GetTimestamp();
        free = Math.Max(free, now - Burst) + (long)(bytes / rate * Stopwatch.Frequency);
        var wait = Stopwatch.GetElapsedTime(now, free);
        return wait > TimeSpan.Zero ? Task.Delay(wait) : Task.CompletedTask;
    }
}
