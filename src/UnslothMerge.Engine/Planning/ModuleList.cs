namespace UnslothMerge.Planning;

/// <summary>Modules that a list names: by the whole path or its end, or a module around them; with <c>*</c> or, after <c>re:</c>, by a
/// regular expression from the start.</summary>
internal sealed class ModuleList
{
    private readonly HashSet<string> _names = new(StringComparer.Ordinal);
    private readonly List<ForeignPattern> _patterns = [];

    /// <summary>Reads the entries of a list. <paramref name="of"/> says where they stand, for errors.</summary>
    public ModuleList(IEnumerable<string> entries, MergeError error, string of)
    {
        foreach (var entry in entries.Where(e => e.Length > 0))
        {
            var isPattern = entry.StartsWith("re:", StringComparison.Ordinal);
            if (!isPattern && !entry.Contains('*', StringComparison.Ordinal))
            {
                _names.Add(entry);
                continue;
            }

            _patterns.Add(new ForeignPattern(
                isPattern ? $"^(?:{entry[3..]})"
                    : $@"(?:^|\.){Regex.Escape(entry).Replace(@"\*", ".*", StringComparison.Ordinal)}(?:\.|$)", error,
                $"'{entry}' of {of}"));
            if (_patterns.Count > Limits.Patterns)
            {
                throw new MergeException(error, $"{of} has more than {Limits.Patterns} patterns, and no more are read.");
            }
        }
    }

    /// <summary>True if an entry names the module.</summary>
    public bool Names(string module) => HasName(module) || _patterns.Exists(p => p.IsMatch(module));

    // A list of a thousand experts would be slow as one expression: every run of whole parts of the path is looked up.
    private bool HasName(string module)
    {
        var names = _names.GetAlternateLookup<ReadOnlySpan<char>>();
        for (var start = 0; start >= 0 && _names.Count > 0; start = After(module, start))
        {
            for (var next = After(module, start); ; next = After(module, next))
            {
                if (names.Contains(module.AsSpan(start..(next < 0 ? module.Length : next - 1))))
                {
                    return true;
                }

                if (next < 0)
                {
                    break;
                }
            }
        }

        return false;
    }

    // Where the next part of a path begins; -1 if there is none.
    private static int After(string module, int start) =>
        module.IndexOf('.', start) is var dot and >= 0 ? dot + 1 : -1;
}
