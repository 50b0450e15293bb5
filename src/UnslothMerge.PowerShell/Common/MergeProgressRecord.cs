using System.Management.Automation;

using UnslothMerge.Execution;

namespace UnslothMerge.PowerShell.Common;

/// <summary>Shows the progress of a save or a test on the pipeline's thread: silent for the first two seconds, then five times a second. A
/// model of several shards has a second bar for the shard in work.</summary>
internal sealed class MergeProgressRecord(
    Action<ProgressRecord> write, string activity, IReadOnlyList<WriteShard> shards, TimeProvider time) : IProgress<MergeProgress>
{
    private static readonly TimeSpan Silence = TimeSpan.FromSeconds(2);
    private static readonly TimeSpan Interval = TimeSpan.FromMilliseconds(200);
    private static int s_lastId;

    // Merges that run side by side (ForEach-Object -Parallel) have bars of their own.
    private readonly int _id = Interlocked.Add(ref s_lastId, 2);
    private readonly long _start = time.GetTimestamp();
    private TimeSpan _next = Silence;
    private bool _shown;

    private bool HasShards => shards.Count > 1;

    public void Report(MergeProgress value)
    {
        var elapsed = time.GetElapsedTime(_start);
        if (elapsed < _next)
        {
            return;
        }

        _next = elapsed + Interval;
        _shown = true;
        var (done, total) = (value.Written + value.Surveyed, value.Total + value.ToSurvey);
        var rate = done / elapsed.TotalSeconds;
        write(new ProgressRecord(_id, activity,
            $"{ByteSize.Text(value.Written)} of {ByteSize.Text(value.Total)}, {ByteSize.Text((long)rate)}/s{Survey(value)}")
        {
            CurrentOperation = HasShards ? null : value.Tensor,
            PercentComplete = Percent(done, total),
            SecondsRemaining = rate > 0 ? (int)Math.Min((total - done) / rate, int.MaxValue) : -1,
        });
        if (HasShards)
        {
            WriteShard(value);
        }
    }

    /// <summary>Removes the display.</summary>
    public void Complete()
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
