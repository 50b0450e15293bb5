using UnslothMerge.Hub.Fetching;

namespace UnslothMerge.Tests.Hub.Fetching;

public sealed class RateBoardTests : FetchTests
{
    private const string Name = "model.safetensors";

    [Theory]
    [InlineData(100, 100, 100, 19, true)]
    [InlineData(100, 100, 100, 21, false)]
    [InlineData(100, 300, 100, 19, true)]
    [InlineData(100, 100, 0, 1, true)]
    [InlineData(100, 0, 0, 1, false)]
    public void A_connection_is_too_slow_that_stays_far_behind_two_others(int first, int second, int third, int mine, bool isTooSlow)
    {
        var clock = new ManualClock();
        var board = new RateBoard(clock);
        var others = new[] { first, second, third }.Where(r => r > 0).Select(r => (Rate: r, Member: board.Join())).ToList();
        using var member = board.Join();
        clock.Now += TimeSpan.FromSeconds(2);
        Assert.False(member.IsTooSlow(0));
        clock.Now += TimeSpan.FromSeconds(2);
        others.ForEach(o => Assert.False(o.Member.IsTooSlow(o.Rate)));
        Assert.Equal(isTooSlow, member.IsTooSlow(mine));

        // What was counted is over; who has left does not count.
        others.ForEach(o => o.Member.Dispose());
        clock.Now += TimeSpan.FromSeconds(4);
        Assert.False(member.IsTooSlow(0));
    }

    [Fact]
    public void A_slow_connection_is_replaced_a_few_times_and_goes_on_where_it_was()
    {
        var content = new byte[3_000_000];
        new Random(1).NextBytes(content);
        Server.Add(Base, (Name, content));
        using var client = Client();
        var model = Find(client, Base);
        var file = new HubContent(client, Base, model.Commit, model.FileAt(Name)!);

        // Every look at the clock is four seconds after the last, and three others are fast.
        var clock = new ManualClock { Step = TimeSpan.FromSeconds(4) };
        var board = new RateBoard(clock);
        foreach (var member in Enumerable.Range(0, 3).Select(_ => board.Join()).ToList())
        {
            Assert.False(member.IsTooSlow(int.MaxValue));
        }

        var read = new byte[content.Length];
        file.Read(0, content.Length, board, (at, bytes) => bytes.CopyTo(read.AsSpan((int)at)), Stop);
        Assert.Equal(content, read);
        Assert.Equal(4, Server.Log.Count(l => l.Contains("/objects/", StringComparison.Ordinal)));
        Assert.Equal(3, client.TakeNotices().Count(n => n.Text.Contains("slow connection", StringComparison.Ordinal)));
    }

    private sealed class ManualClock : TimeProvider
    {
        public TimeSpan Now { get; set; }

        public TimeSpan Step { get; init; }

        public override long TimestampFrequency => TimeSpan.TicksPerSecond;

        public override long GetTimestamp() => (Now += Step).Ticks;
    }
}
