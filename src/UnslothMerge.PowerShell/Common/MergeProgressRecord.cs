using System.Management.Automation;

using UnslothMerge.Execution;

namespace UnslothMerge.PowerShell.Common;

/// <summary>Shows the progress of a save or a test on the pipeline's thread: silent for the first two seconds, then five times a second. A
/// model of several shards has a second bar for the shard in work.</summary>
internal sealed class MergeProgressRecord(
    Action<ProgressRecord> write, string activity, IReadOnlyList<WriteShard> shards, TimeProvider time)
    : IProgress<MergeProgress>, IDisposable
{
    private static readonly TimeSpan Silence = TimeSpan.FromSeconds(2);
    private static readonly TimeSpan Interval = TimeSpan.FromMilliseconds(200);

    // Disks and caches change their speed: the time left is told from the last seconds. What is a day away cannot be told.
    private static readonly TimeSpan Window = TimeSpan.FromSeconds(15);
    private static readonly TimeSpan FarOff = TimeSpan.FromDays(1);
    private static int s_lastId;

    // Merges that run side by side (ForEach-Object -Parallel) have bars of their own.
    private readonly int _id = Interlocked.Add(ref s_lastId, 2);
    private readonly long _start = time.GetTimestamp();
    private readonly Queue<(TimeSpan At, long Written)> _recent = new([(TimeSpan.Zero, 0)]);
    private TimeSpan _next = Silence;
    private bool _shown;

    private bool HasShards => shards.Count > 1;

    public void Report(MergeProgress value)
    {
        var elapsed = time.GetElapsedTime(_start);
        var (done, total) = (value.Written + value.Surveyed, value.Total + value.ToSurvey);
        var rate = RecentRate(elapsed, done);
        if (elapsed < _next)
        {
            return;
        }

        _next = elapsed + Interval;
        _shown = true;
        write(new ProgressRecord(_id, activity,
            $"{ByteSize.Text(value.Written)} of {ByteSize.Text(value.Total)}, {ByteSize.Text((long)rate)}/s{Survey(value)}")
        {
            CurrentOperation = HasShards ? null : value.Tensor,
            PercentComplete = Percent(done, total),
            SecondsRemaining = (total - done) / rate is var left && left <= FarOff.TotalSeconds ? (int)left : -1,
        });
        if (HasShards)
        {
            WriteShard(value);
        }
    }

    // Bytes per second.
    private double RecentRate(TimeSpan elapsed, long written)
    {
        _recent.Enqueue((elapsed, written));
        while (_recent.Count > 2 && elapsed - _recent.ElementAt(1).At >= Window)
        {
            _recent.Dequeue();
        }

        var (at, before) = _recent.Peek();
        return elapsed > at ? (written - before) / (elapsed - at).TotalSeconds : 0;
    }

    /// <summary>Removes the display.</summary>
    public void Dispose()
    {
        if (!_shown)
        {
            return;
        }

        if (HasShards)
        {
            write(new ProgressRecord(_id + 1, activity, "Done") { ParentActivityId = _id, RecordType = ProgressRecordType.Completed });
        }

        write(new ProgressRecord(_id, activity, "Done") { RecordType = ProgressRecordType.Completed });
    }

    // Pieces are handed out in the order of the output, so what is written beyond the earlier shards belongs to this one.
    private void WriteShard(MergeProgress value)
    {
        var earlier = shards.TakeWhile(s => s.Name != value.Shard).ToList();
        var bytes = shards[earlier.Count].Layout.Length;
        var written = Math.Clamp(value.Written - earlier.Sum(s => s.Layout.Length), 0, bytes);
        write(new ProgressRecord(_id + 1, value.Shard, $"{ByteSize.Text(written)} of {ByteSize.Text(bytes)}")
        {
            ParentActivityId = _id,
            CurrentOperation = value.Tensor,
            PercentComplete = Percent(written, bytes),
        });
    }

    // What is surveyed first is not written yet.
    private static string Survey(MergeProgress value) =>
        value.ToSurvey > 0 ? $", {Percent(value.Surveyed, value.ToSurvey)} % surveyed" : "";

    private static int Percent(long part, long whole) => (int)Math.Clamp(100 * part / Math.Max(whole, 1), 0, 100);
}
