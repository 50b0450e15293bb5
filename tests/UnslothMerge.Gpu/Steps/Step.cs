using System.Globalization;

namespace UnslothMerge.Gpu.Steps;

/// <summary>One part of the check, in a process of its own: what crashes or hangs ends no other.</summary>
/// <param name="Name">Its name.</param>
/// <param name="Seconds">The most it may take.</param>
internal abstract class Step(string name, int seconds)
{
    /// <summary>All of them, in order.</summary>
    public static IReadOnlyList<Step> All { get; } = [new ProbeStep(), new GoldenStep(), new LimitStep(), new FullStep(), new NoRoomStep(), new TableStep()];

    /// <summary>Its name.</summary>
    public string Name => name;

    /// <summary>The most it may take.</summary>
    public int Seconds => seconds;

    /// <summary>Runs it in this process and tells what fails with all its causes.</summary>
    /// <returns>The exit code.</returns>
    public int Run(Settings settings)
    {
        try
        {
            Do(settings);
            return 0;
        }
        catch (Exception e)
        {
            Say($"FAILED: {e}");
            Say((e as MergeException)?.Advice ?? "");
            return 1;
        }
    }

    /// <summary>Does it.</summary>
    protected abstract void Do(Settings settings);

    /// <summary>Prints a line.</summary>
    protected static void Say(FormattableString line) => Say(line.ToString(CultureInfo.InvariantCulture));

    /// <inheritdoc cref="Say(FormattableString)"/>
    protected static void Say(string line) => Console.WriteLine(line);
}
