using System.Globalization;
using System.Management.Automation;
using System.Management.Automation.Host;
using UnslothMerge.Shell.Terminal;

namespace UnslothMerge.Shell.Host;

/// <summary>The terminal as a grid of characters: its size, its cursor, its keys.</summary>
internal sealed class ShellRawUserInterface : PSHostRawUserInterface
{
    // Wide enough for any table of the module; a log file has no edge to wrap at.
    private const int RedirectedWidth = 120;
    private const int RedirectedHeight = 50;

    public override ConsoleColor ForegroundColor
    {
        get => Known(Console.ForegroundColor, ConsoleColor.Gray);
        set => Console.ForegroundColor = value;
    }

    public override ConsoleColor BackgroundColor
    {
        get => Known(Console.BackgroundColor, ConsoleColor.Black);
        set => Console.BackgroundColor = value;
    }

    public override Size WindowSize
    {
        get => HasTerminal ? new Size(Math.Max(1, Console.WindowWidth), Math.Max(1, Console.WindowHeight)) : Redirected;
        set => throw new PSNotSupportedException("The window's size belongs to the terminal.");
    }

    public override Size BufferSize
    {
        get => WindowSize;
        set => throw new PSNotSupportedException("The buffer's size belongs to the terminal.");
    }

    public override Size MaxWindowSize => WindowSize;

    public override Size MaxPhysicalWindowSize => WindowSize;

    public override Coordinates CursorPosition
    {
        get => CanControlCursor ? new Coordinates(Console.CursorLeft, Console.CursorTop) : default;
        set
        {
            if (CanControlCursor)
            {
                Console.SetCursorPosition(value.X, value.Y);
            }
        }
    }

    public override Coordinates WindowPosition { get; set; }

    public override int CursorSize { get; set; } = 25;

    public override string WindowTitle
    {
        get => OperatingSystem.IsWindows() && HasTerminal ? Console.Title : "";
        set
        {
            if (HasTerminal)
            {
                Console.Title = value;
            }
        }
    }

    public override bool KeyAvailable => !Console.IsInputRedirected && Console.KeyAvailable;

    private static bool HasTerminal => TerminalStream.Output.IsTerminal || TerminalStream.Error.IsTerminal;

    // Asking for the position needs an answer from the terminal.
    private static bool CanControlCursor => TerminalStream.Output.IsTerminal && !Console.IsInputRedirected;

    private static Size Redirected
    {
        get
        {
            var columns = Environment.GetEnvironmentVariable("COLUMNS");
            var known = int.TryParse(columns, NumberStyles.None, CultureInfo.InvariantCulture, out var width) && width > 0;
            return new Size(known ? width : RedirectedWidth, RedirectedHeight);
        }
    }

    public override KeyInfo ReadKey(ReadKeyOptions options)
    {
        if (Console.IsInputRedirected)
        {
            throw new PSInvalidOperationException("There is no keyboard: standard input is redirected.");
        }

        var key = Console.ReadKey((options & ReadKeyOptions.NoEcho) != 0);
        var state = (key.Modifiers.HasFlag(ConsoleModifiers.Shift) ? ControlKeyStates.ShiftPressed : 0)
            | (key.Modifiers.HasFlag(ConsoleModifiers.Alt) ? ControlKeyStates.LeftAltPressed : 0)
            | (key.Modifiers.HasFlag(ConsoleModifiers.Control) ? ControlKeyStates.LeftCtrlPressed : 0);
        return new KeyInfo((int)key.Key, key.KeyChar, state, (options & ReadKeyOptions.IncludeKeyDown) != 0);
    }

    public override void FlushInputBuffer()
    {
        while (KeyAvailable)
        {
            Console.ReadKey(intercept: true);
        }
    }

    public override BufferCell[,] GetBufferContents(Rectangle rectangle) => throw NoCells();

    public override void SetBufferContents(Coordinates origin, BufferCell[,] contents) => throw NoCells();

    public override void SetBufferContents(Rectangle rectangle, BufferCell fill)
    {
        // Clearing the whole screen is the one use of this that every terminal can do.
        if (rectangle.Left != -1 || rectangle.Right != -1)
        {
            throw NoCells();
        }

        Console.Clear();
    }

    public override void ScrollBufferContents(Rectangle source, Coordinates destination, Rectangle clip, BufferCell fill) => throw NoCells();

    // Terminals on Unix do not tell their colours: -1.
    private static ConsoleColor Known(ConsoleColor color, ConsoleColor fallback) => Enum.IsDefined(color) ? color : fallback;

    private static PSNotSupportedException NoCells() => new("This terminal's characters cannot be read or moved.");
}
