namespace UnslothMerge;

/// <summary>How much is read of what other people made. What exceeds a limit is refused with a message that names it.</summary>
internal static class Limits
{
    /// <summary>The bytes of a text that is read whole: a tokenizer, an index.</summary>
    public const int TextBytes = 64 * 1024 * 1024;

    /// <summary>The bytes of an index, of which a part is read at a time.</summary>
    public const int IndexBytes = 512 * 1024 * 1024;

    /// <summary>The bytes of a file that is copied beside the weights.</summary>
    public const long CopiedBytes = 1L << 30;

    /// <summary>The bytes of a config.</summary>
    public const int JsonBytes = 16 * 1024 * 1024;

    /// <summary>The values of a config, of which each takes up to 300 bytes: enough for <see cref="ModuleKeys"/> twice.</summary>
    public const int JsonValues = 1 << 19;

    /// <summary>The numbers of a config that JSON does not have (NaN, Infinity): each is kept as a text.</summary>
    public const int PythonNumbers = 1 << 16;

    /// <summary>The bytes of bitsandbytes' quant_state, which has some 200.</summary>
    public const int QuantStateBytes = 64 * 1024;

    /// <summary>The bytes of a model card.</summary>
    public const int CardBytes = 4 * 1024 * 1024;

    /// <summary>The characters of a card's YAML: its reader takes a second for a mebibyte.</summary>
    public const int YamlLength = 1024 * 1024;

    /// <summary>How deep the lists and mappings of a card's YAML may be nested: its reader calls itself.</summary>
    public const int YamlDepth = 64;

    /// <summary>The bytes of a safetensors header: what the format allows.</summary>
    public const int HeaderBytes = 100_000_000;

    /// <summary>The bytes of a header's __metadata__: trainers keep their settings there.</summary>
    public const int MetadataBytes = 16 * 1024 * 1024;

    /// <summary>The dimensions of a tensor: what PyTorch and NumPy allow.</summary>
    public const int Dimensions = 64;

    /// <summary>The experts of a layer.</summary>
    public const int Experts = 1 << 16;

    /// <summary>The layers of a model whose layers are repeated.</summary>
    public const int Layers = 1 << 14;

    /// <summary>The bytes of a pickle that describes tensors.</summary>
    public const int PickleBytes = HeaderBytes;

    /// <summary>The bytes before the storages of a pickle without archive: enough for 100,000 tensors.</summary>
    public const int LegacyPickleBytes = 1 << 24;

    /// <summary>The opcodes of a pickle: enough for 400,000 tensors.</summary>
    public const int PickleOpcodes = 1 << 24;

    /// <summary>The values that a pickle may come back to: torch.save names every one, some ten for a tensor.</summary>
    public const int PickleMemo = 1 << 22;

    /// <summary>The values on the stack of a pickle: torch.save sets a dict's items a thousand at a time.</summary>
    public const int PickleStack = 1 << 16;

    /// <summary>The open marks of a pickle: a state dict needs three.</summary>
    public const int PickleMarks = 16;

    /// <summary>The bytes of a tensor that repeats the values of its storage: some hundred bytes may describe any number of them.</summary>
    public const long RepeatedBytes = 1 << 28;

    /// <summary>The bytes of a zip archive's directory: about a million tensors.</summary>
    public const int ArchiveDirectoryBytes = 100_000_000;

    /// <summary>The characters of a tensor's name: it is matched against many patterns.</summary>
    public const int NameLength = 2048;

    /// <summary>The names of tensors and modules, numbers apart: a model has some dozens, but for the few classes whose layers have names.
    /// </summary>
    public const int NameForms = 1 << 17;

    /// <summary>The ids of a vocabulary: some sixty times the largest.</summary>
    public const int Tokens = 1 << 24;

    /// <summary>The labels of a classifier: a config has each of them twice.</summary>
    public const int Labels = JsonValues / 4;

    /// <summary>The characters of a regular expression.</summary>
    public const int PatternLength = 16 * 1024;

    /// <summary>The patterns of a list of modules: each is matched with every module.</summary>
    public const int Patterns = 256;

    /// <summary>The keys of rank_pattern or alpha_pattern: one for each module of the largest models.</summary>
    public const int ModuleKeys = 1 << 17;

    /// <summary>Those keys that are regular expressions, each of which is matched with every module.</summary>
    public const int KeyPatterns = 1024;

    /// <summary>The files and folders of a model's directory.</summary>
    public const int Files = 1_000_000;

    /// <summary>How long a regular expression may take, for one name and beyond <see cref="PatternTimePerName"/> for all of them.</summary>
    public static readonly TimeSpan PatternTime = TimeSpan.FromSeconds(1);

    /// <summary>How long a regular expression may take for each of many names.</summary>
    public static readonly TimeSpan PatternTimePerName = TimeSpan.FromMicroseconds(50);
}
