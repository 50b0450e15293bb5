using UnslothMerge.Files;

namespace UnslothMerge.PowerShell.Common;

/// <summary>Stops a command when the system ends the process (SIGTERM, SIGHUP; on Windows a window that is closed, a shutdown), and lets
/// the process end only once the command has tidied up. A file that may not grow is an error of the write, not the process's end.</summary>
internal sealed class EndingSignals : IDisposable
{
    // SIGXFSZ, on Linux and macOS.
    private const PosixSignal FileSizeExceeded = (PosixSignal)25;

    private readonly CancellationTokenSource _ending = new();
    private readonly TaskCompletionSource _tidied = new();
    private readonly List<PosixSignalRegistration> _registrations = [];

    public EndingSignals()
    {
        _registrations.Add(PosixSignalRegistration.Create(PosixSignal.SIGTERM, End));
        if (!SystemCalls.IgnoresHangup)
        {
            _registrations.Add(PosixSignalRegistration.Create(PosixSignal.SIGHUP, End));
        }

        if (!OperatingSystem.IsWindows())
        {
            _registrations.Add(PosixSignalRegistration.Create(FileSizeExceeded, context => context.Cancel = true));
        }
    }

    /// <summary>Cancelled when the process is to end.</summary>
    public CancellationToken Ending => _ending.Token;

    public void Dispose()
    {
        _tidied.TrySetResult();
        _registrations.ForEach(r => r.Dispose());
        _ending.Dispose();
    }

    // The process ends when this returns.
    private void End(PosixSignalContext context)
    {
        _ending.Cancel();
        _tidied.Task.Wait();
    }
}
