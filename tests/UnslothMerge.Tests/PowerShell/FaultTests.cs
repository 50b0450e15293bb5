namespace UnslothMerge.Tests.PowerShell;

public sealed class FaultTests
{
    /// <summary>The short form of ./build.ps1 Faults.</summary>
    [Fact]
    public void Killed_saves_go_on()
    {
        Assert.SkipWhen(OperatingSystem.IsWindows(), "The script is for Unix.");
        var lines = PowerShellProcess.Run(
            $"& '{Fixtures.Root}/tests/faults/Faults.ps1' -Kills 2 -Injections 0 -Fills 0 -Size 8MB 6>&1");
        Assert.Contains(lines, l => l.StartsWith("2 kills: ", StringComparison.Ordinal));
    }
}
