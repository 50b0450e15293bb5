using System.Diagnostics;
using System.Management.Automation;
using UnslothMerge.Execution;

namespace UnslothMerge.PowerShell.Common;

/// <summary>Shows a save's progress on the pipeline's thread: silent for the first two seconds, then five times a second.</summary>
internal sealed class MergeProgressRecord(Cmdlet cmdlet, string activity) : IProgress<MergeProgress>
{
    private static readonly TimeSpan Silence = TimeSpan.FromSeconds(2);
    private static readonly TimeSpan Interval = TimeSpan.FromMilliseconds(200);

    private readonly Stopwatch _clock = Stopwatch.StartNew();
    private TimeSpan _next = Silence;
    private bool _shown;

    public void Report(MergeProgress value)
    {
        if (_clock.Elapsed < _next)
        {
            return;
        }

        _next = _clock.Elapsed + Interval;
        _shown = true;
        var rate = value.Written / _clock.Elapsed.TotalSeconds;
        cmdlet.WriteProgress(new ProgressRecord(0, activity, $"{ByteSize.Text(value.Written)} of {ByteSize.Text(value.Total)}, {ByteSize.Text((long)rate)}/s")
        {
            CurrentOperation = $"{value.Shard}: {value.Tensor}",
            PercentComplete = (int)Math.Clamp(100 * value.Written / Math.Max(value.Total, 1), 0, 100),
            SecondsRemaining = rate > 0 ? (int)Math.Max(0, (value.Total - value.Written) / rate) : -1,
        });
    }

    /// <summary>Takes the display away, if there was one.</summary>
    public void Complete()
    {
        if (_shown)
        {
            cmdlet.WriteProgress(new ProgressRecord(0, activity, "Done") { RecordType = ProgressRecordType.Completed });
        }
    }
}
