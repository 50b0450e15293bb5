namespace UnslothMerge.Shell;

/// <summary>What the command line asks the shell to do.</summary>
internal enum ShellMode
{
    /// <summary>Prompt for commands, or run standard input where it is redirected.</summary>
    Interactive,

    /// <summary>Run the text of -Command.</summary>
    Command,

    /// <summary>Run standard input.</summary>
    StandardInput,

    /// <summary>Run the script of -File.</summary>
    File,

    /// <summary>Say the version.</summary>
    Version,

    /// <summary>Say what can be asked for.</summary>
    Help,
}
