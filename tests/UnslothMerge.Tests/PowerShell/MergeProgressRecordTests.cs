using System.Management.Automation;
using UnslothMerge.PowerShell.Common;

namespace UnslothMerge.Tests.PowerShell;

public sealed class MergeProgressRecordTests : FileTests
{
    private readonly Clock _clock = new();
    private readonly List<ProgressRecord> _shown = [];

    [Fact]
    public void A_short_save_shows_nothing()
    {
        var (progress, plan) = Start(shard: 1_000_000);
        _clock.Seconds = 1.9;
        progress.Report(At(plan, 0, plan.Bytes / 2));
        progress.Dispose();
        Assert.Empty(_shown);
    }

    [Fact]
    public void Bytes_rate_and_time_left_are_shown_five_times_a_second()
    {
        var (progress, plan) = Start(shard: 1_000_000);
        for (_clock.Seconds = 2; _clock.Seconds < 2.95; _clock.Seconds += 0.1)
        {
            progress.Report(At(plan, 0, plan.Bytes / 2));
        }

        Assert.Equal(5, _shown.Count);
        var expected = $"{ByteSize.Text(plan.Bytes / 2)} of {ByteSize.Text(plan.Bytes)}, {ByteSize.Text(plan.Bytes / 4)}/s";
        Assert.Equal(expected, _shown[0].StatusDescription);
        Assert.Equal((50, 2, "w0"), (_shown[0].PercentComplete, _shown[0].SecondsRemaining, _shown[0].CurrentOperation));

        progress.Dispose();
        Assert.Equal((ProgressRecordType.Completed, _shown[0].ActivityId), (_shown[^1].RecordType, _shown[^1].ActivityId));
    }

    [Fact]
    public void The_time_left_is_told_from_the_last_seconds()
    {
        var (progress, plan) = Start(shard: 1_000_000);
        void Report(double seconds, double share)
        {
            _clock.Seconds = seconds;
            progress.Report(At(plan, 0, (long)(plan.Bytes * share)));
        }

        // Half of it took ten seconds; then it became ten times slower.
        for (var i = 0; i <= 100; i++)
        {
            Report(i / 10.0, i / 200.0);
        }

        for (var i = 1; i <= 200; i++)
        {
            Report(10 + (i / 10.0), 0.5 + (i / 2000.0));
        }

        Assert.InRange(_shown[^1].SecondsRemaining, 75, 85);

        // Nothing is written any more: that cannot be told.
        for (var i = 1; i <= 200; i++)
        {
            Report(30 + (i / 10.0), 0.6);
        }

        Assert.Equal(-1, _shown[^1].SecondsRemaining);
    }

    [Fact]
    public void What_is_days_away_is_not_shown()
    {
        var (progress, _) = Start(shard: 1_000_000);
        _clock.Seconds = 3600;
        progress.Report(new MergeProgress(1_000_000, 1_000_000_000_000, "w0", ""));
        Assert.Equal(-1, _shown[^1].SecondsRemaining);
    }

    [Fact]
    public void A_shard_has_a_bar_of_its_own_where_there_are_several()
    {
        var (progress, plan) = Start(shard: 300);
        var first = plan.Shards[0].Layout.Length;
        _clock.Seconds = 2;
        progress.Report(At(plan, 1, first + 100));
        Assert.Equal(2, _shown.Count);
        Assert.Equal(_shown[0].ActivityId, _shown[1].ParentActivityId);
        Assert.Equal(plan.Shards[1].Name, _shown[1].Activity);
        Assert.Equal($"100 B of {ByteSize.Text(plan.Shards[1].Layout.Length)}", _shown[1].StatusDescription);

        progress.Dispose();
        Assert.Equal([_shown[1].ActivityId, _shown[0].ActivityId], _shown[2..].Select(r => r.ActivityId));
        Assert.All(_shown[2..], r => Assert.Equal(ProgressRecordType.Completed, r.RecordType));
    }

    [Fact]
    public void Two_saves_have_two_bars()
    {
        var (one, two) = (Start(shard: 300).Progress, Start(shard: 300).Progress);
        _clock.Seconds = 2;
        one.Report(At(Plan(300), 0, 1));
        two.Report(At(Plan(300), 0, 1));
        Assert.Equal(4, _shown.Select(r => r.ActivityId).Distinct().Count());
    }

    private static MergeProgress At(WritePlan plan, int shard, long written) => new(written, plan.Bytes, "w0", plan.Shards[shard].Name);

    private (MergeProgressRecord Progress, WritePlan Plan) Start(long shard)
    {
        var plan = Plan(shard);
        return (new MergeProgressRecord(_shown.Add, "Saving", plan.Shards, _clock), plan);
    }

    private WritePlan Plan(long shard) => TinyModel.WritePlan(
        TinyModel.Plan(TinyModel.Base(Temp["base"], [.. Enumerable.Range(0, 3).Select(i => TinyTensor.Random($"w{i}", [8, 8], i))])),
        UnslothMerge.Safetensors.TensorType.F32,
        shard);

    private sealed class Clock : TimeProvider
    {
        public double Seconds { get; set; }

        public override long TimestampFrequency => 1000;

        public override long GetTimestamp() => (long)Math.Round(Seconds * 1000);
    }
}
