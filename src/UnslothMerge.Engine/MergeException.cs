namespace UnslothMerge;

/// <summary>The stable ids of errors that a user can act on. docs/errors.md lists them for users.</summary>
internal enum MergeError
{
    /// <summary>A file or directory is missing or is not what it should be.</summary>
    InvalidModel,

    /// <summary>A safetensors file breaks the format's rules.</summary>
    InvalidSafetensors,

    /// <summary>An adapter directory cannot be read or contradicts itself.</summary>
    InvalidAdapter,

    /// <summary>A recipe cannot be read, or says something that no recipe can.</summary>
    InvalidRecipe,

    /// <summary>An adapter is of a kind that cannot be merged.</summary>
    UnsupportedAdapter,

    /// <summary>The base is stored in a number format that is not known.</summary>
    UnsupportedFormat,

    /// <summary>Some adapter tensors have no place in the base.</summary>
    AdapterDoesNotFit,

    /// <summary>The base is a model that an adapter was merged into already.</summary>
    MergedBase,

    /// <summary>The base or an adapter that merge.json names was not found.</summary>
    SourceNotFound,

    /// <summary>An argument means nothing here: a path that is empty or matches nothing, or a parameter that would have no
    /// effect.</summary>
    InvalidArgument,

    /// <summary>An option has a value that it cannot have, or options contradict each other or the merge.</summary>
    InvalidOption,

    /// <summary>A file or directory is not there, or wildcards match none.</summary>
    PathNotFound,

    /// <summary>A model has no tensor of that name.</summary>
    TensorNotFound,

    /// <summary>The set of tensors to save is not a complete model.</summary>
    IncompleteModel,

    /// <summary>A worker would save another model than those whose parts are there.</summary>
    PartsDiffer,

    /// <summary>Parts of a model are not there yet.</summary>
    PartsMissing,

    /// <summary>The destination cannot be one, or holds what may not be replaced.</summary>
    InvalidDestination,

    /// <summary>Something is at the destination already.</summary>
    DestinationExists,

    /// <summary>A file cannot be read.</summary>
    FileNotAccessible,

    /// <summary>The user may not read or write a file or directory.</summary>
    AccessDenied,

    /// <summary>There is not enough space on the disk.</summary>
    DiskFull,

    /// <summary>The system did not write a file.</summary>
    WriteFailed,

    /// <summary>A merged value is not finite in the output dtype.</summary>
    NonFiniteResult,

    /// <summary>A file changed, shrank or could not be read while it was in use.</summary>
    FileChanged,

    /// <summary>There is not enough memory for the plan.</summary>
    DoesNotFit,

    /// <summary>The device that was asked for is not there, or libtorch cannot be used.</summary>
    DeviceUnavailable,

    /// <summary>The process was told to end.</summary>
    Stopped,

    /// <summary>A repository, revision or file is not on the Hub, or may not be seen.</summary>
    HubNotFound,

    /// <summary>The token lacks a right, or there is none.</summary>
    HubAccessDenied,

    /// <summary>The Hub refuses what was sent, and would again.</summary>
    HubRefused,

    /// <summary>Someone else has changed the repository meanwhile.</summary>
    HubConflict,

    /// <summary>The Hub cannot be reached, answers with errors of its own, or may not be asked.</summary>
    HubUnavailable,
}

/// <summary>An error a user can act on: it names the file, tensor or option, and says what to do.</summary>
internal class MergeException : Exception
{
    /// <summary>Creates the error.</summary>
    public MergeException(MergeError error, string message, string? target = null, string? advice = null, Exception? inner = null)
        : base(message, inner)
    {
        Error = error;
        Target = target;
        Advice = advice;
    }

    /// <summary>What kind of trouble this is.</summary>
    public MergeError Error { get; }

    /// <summary>True if the same command may succeed later, as after an error of a disk or of the network; false if what it was given must
    /// change first.</summary>
    public virtual bool IsTransient => Error is MergeError.FileNotAccessible or MergeError.DiskFull or MergeError.WriteFailed
        or MergeError.FileChanged or MergeError.PartsMissing or MergeError.Stopped;

    /// <summary>The path or name concerned.</summary>
    public string? Target { get; }

    /// <summary>What the user can do about it, as far as is known where it is thrown.</summary>
    public string? Advice { get; set; }

    /// <summary>Says more of what the user can do.</summary>
    public void AddAdvice(string more) => Advice = Advice is null ? more : $"{Advice}\n{more}";

    /// <summary>Every single offender, where the message can only show the first of many.</summary>
    public IReadOnlyList<string> Details { get; init; } = [];
}
