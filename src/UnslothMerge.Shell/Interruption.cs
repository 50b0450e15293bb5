using System.Runtime.InteropServices;

namespace UnslothMerge.Shell;

/// <summary>
/// Ctrl+C, SIGTERM and SIGHUP stop the running pipeline rather than the process, so that cmdlets clean up.
/// A second Ctrl+C, a second or more after the first and while that is still being obeyed, ends the process; one that follows at once is the
/// same wish (timeout and some terminals send the signal twice).
/// </summary>
internal sealed class Interruption : IDisposable
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(1);

    private readonly Lock _lock = new();
    private readonly List<PosixSignalRegistration> _registrations = [];
    private readonly Stack<System.Management.Automation.PowerShell> _running = new();
    private bool _stopping;
    private long _stoppingSince;

    public Interruption()
    {
        foreach (var signal in new[] { PosixSignal.SIGINT, PosixSignal.SIGTERM, PosixSignal.SIGHUP })
        {
            _registrations.Add(PosixSignalRegistration.Create(signal, OnSignal));
        }
    }

    /// <summary>At the prompt Ctrl+C stops the pipeline and nothing more; a script ends with it.</summary>
    public bool Interactive { get; set; }

    /// <summary>The exit code that a signal asks for (128 + its number); null as long as none does.</summary>
    public int? ExitCode { get; private set; }

    /// <summary>Says which pipeline a signal stops from now on; false if the process is to end instead of running it.</summary>
    public bool TryEnter(System.Management.Automation.PowerShell pipeline)
    {
        lock (_lock)
        {
            if (ExitCode is not null)
            {
                return false;
            }

            _running.Push(pipeline);
            return true;
        }
    }

    /// <summary>The innermost pipeline has ended.</summary>
    public void Leave()
    {
        lock (_lock)
        {
            _running.Pop();
            _stopping = false;
        }
    }

    public void Dispose() => _registrations.ForEach(registration => registration.Dispose());

    private void OnSignal(PosixSignalContext context)
    {
        lock (_lock)
        {
            var interrupt = context.Signal == PosixSignal.SIGINT;
            if (!interrupt || !Interactive)
            {
                ExitCode ??= context.Signal switch
                {
                    PosixSignal.SIGINT => 130,
                    PosixSignal.SIGHUP => 129,
                    _ => 143,
                };
            }

            if (_running.TryPeek(out var pipeline))
            {
                context.Cancel = !(_stopping && interrupt && System.Diagnostics.Stopwatch.GetElapsedTime(_stoppingSince) > Patience);
                if (!_stopping)
                {
                    _stopping = true;
                    _stoppingSince = System.Diagnostics.Stopwatch.GetTimestamp();
                    pipeline.BeginStop(null, null);
                }
            }
            else
            {
                // Nothing to clean up: at the prompt Ctrl+C is a key, anything else may end the process.
                context.Cancel = interrupt && Interactive;
            }
        }
    }
}
