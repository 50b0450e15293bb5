using UnslothMerge.Hub.Publishing;

namespace UnslothMerge.PowerShell.Common;

/// <summary>Shows the progress of a publication on the pipeline's thread, with rate and time left: silent for the first two seconds of it,
/// then five times a second.</summary>
internal sealed class UploadProgressRecord(Action<ProgressRecord> write, string activity, Action alsoDo, TimeProvider time)
    : IProgress<UploadProgress>, IDisposable
{
    private static readonly TimeSpan Silence = TimeSpan.FromSeconds(2);
    private static readonly TimeSpan Interval = TimeSpan.FromMilliseconds(200);
    private static int s_lastId = 1_000_000;

    private readonly int _id = Interlocked.Increment(ref s_lastId);
    private string _phase = "";
    private long _start;
    private long _first;
    private TimeSpan _next;
    private bool _shown;

    public void Report(UploadProgress value)
    {
        alsoDo();
        if (value.Phase != _phase)
        {
            (_phase, _start, _first, _next) = (value.Phase, time.GetTimestamp(), value.Done, _shown ? TimeSpan.Zero : Silence);
        }

        var elapsed = time.GetElapsedTime(_start);
        if (elapsed < _next)
        {
            return;
        }

        _next = elapsed + Interval;
        _shown = true;

        // What an earlier run had done says nothing of the rate.
        var rate = (value.Done - _first) / Math.Max(0.001, elapsed.TotalSeconds);
        write(new ProgressRecord(_id, activity,
            $"{value.Phase}: {ByteSize.Text(value.Done)} of {ByteSize.Text(value.Total)}, {ByteSize.Text((long)rate)}/s")
        {
            PercentComplete = (int)Math.Clamp(100 * value.Done / Math.Max(value.Total, 1), 0, 100),
            SecondsRemaining = rate > 0 ? (int)Math.Min((value.Total - value.Done) / rate, int.MaxValue) : -1,
        });
    }

    /// <summary>Removes the display.</summary>
    public void Dispose()
    {
        if (_shown)
        {
            write(new ProgressRecord(_id, activity, "Done") { RecordType = ProgressRecordType.Completed });
        }
    }
}
