using System.Runtime.ExceptionServices;

namespace UnslothMerge;

/// <summary>Threads that do the work while the caller's thread does something else, waits, reports and can cancel. Disposed of, they are
/// stopped.</summary>
internal sealed class Workers : IDisposable
{
    private static readonly TimeSpan Interval = TimeSpan.FromMilliseconds(100);

    private readonly CancellationToken _cancellation;
    private readonly CancellationTokenSource _stop;
    private readonly List<Thread> _threads;
    private ExceptionDispatchInfo? _failure;

    private Workers(string name, int count, Action<int, CancellationToken> work, CancellationToken cancellation)
    {
        _cancellation = cancellation;
        _stop = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        _threads = [.. Enumerable.Range(0, count).Select(i =>
            new Thread(() => Guard(() => work(i, _stop.Token))) { IsBackground = true, Name = $"{name} {i}" })];
        _threads.ForEach(t => t.Start());
    }

    /// <summary>Cancelled by the caller, and when a thread has failed.</summary>
    public CancellationToken Token => _stop.Token;

    /// <summary>Starts threads, which are told their number.</summary>
    public static Workers Start(string name, int count, Action<int, CancellationToken> work, CancellationToken cancellation) =>
        new(name, count, work, cancellation);

    /// <summary>Runs threads until all have ended, and throws what the first failure was.</summary>
    public static void Run(string name, int count, Action<int, CancellationToken> work, Action report, CancellationToken cancellation)
    {
        using var workers = Start(name, count, work, cancellation);
        workers.WaitFor(workers._threads, report);
    }

    /// <summary>Does something with each item, and throws what the first failure was.</summary>
    public static void ForEach<T>(string name, int count, IReadOnlyList<T> items, Action<T, CancellationToken> work, Action report,
        CancellationToken cancellation)
    {
        var next = -1;
        Run(name, Math.Min(count, items.Count), (_, stop) =>
        {
            for (int i; (i = Interlocked.Increment(ref next)) < items.Count && !stop.IsCancellationRequested;)
            {
                work(items[i], stop);
            }
        }, report, cancellation);
    }

    /// <summary>Waits for something that the threads bring about, or until all have ended.</summary>
    public void WaitUntil(Func<bool> isDone, Action report)
    {
        while (!isDone() && _threads.Exists(t => t.IsAlive))
        {
            _stop.Token.WaitHandle.WaitOne(Interval / 10);
            report();
            ThrowIfFailed();
        }

        ThrowIfFailed();
    }

    /// <summary>Waits until all threads have ended.</summary>
    public void Wait(Action report) => WaitFor(_threads, report);

    /// <summary>Throws what a thread has failed with, or that the caller has cancelled.</summary>
    public void ThrowIfFailed()
    {
        _cancellation.ThrowIfCancellationRequested();
        _failure?.Throw();
    }

    public void Dispose()
    {
        _stop.Cancel();
        _threads.ForEach(t => t.Join());
        _stop.Dispose();
    }

    private void WaitFor(List<Thread> threads, Action report)
    {
        foreach (var thread in threads)
        {
            while (!thread.Join(Interval))
            {
                report();
            }
        }

        ThrowIfFailed();
        report();
    }

    private void Guard(Action work)
    {
        try
        {
            work();
        }
#pragma warning disable CA1031 // the first failure is rethrown on the caller's thread
        catch (Exception e)
#pragma warning restore CA1031
        {
            Interlocked.CompareExchange(ref _failure, ExceptionDispatchInfo.Capture(e), null);
            _stop.Cancel();
        }
    }
}
