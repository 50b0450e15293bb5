using System.Buffers;

namespace UnslothMerge;

/// <summary>The keys of rank_pattern and alpha_pattern, in the file's order. PEFT takes the first that matches a module's name, or what
/// follows a dot in it, to the end. Trainers write a key for each module: names are compared without a regular expression.</summary>
internal sealed class ModuleKeys
{
    private static readonly SearchValues<char> Names =
        SearchValues.Create("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.");

    private readonly (string Key, ForeignPattern? Pattern)[] _keys;

    /// <summary>Reads keys. <paramref name="what"/> begins the error about one, and <paramref name="translate"/> gives an expression of
    /// Python as .NET spells it.</summary>
    public ModuleKeys(IEnumerable<string> keys, Func<string, string> translate, MergeError error, Func<string, string> what, string? target)
    {
        var (all, patterns) = (new List<(string, ForeignPattern?)>(), 0);
        foreach (var key in keys)
        {
            var isName = IsName(key);
            patterns += isName ? 0 : 1;
            if (all.Count == Limits.ModuleKeys || patterns > Limits.KeyPatterns)
            {
                throw new MergeException(error,
                    $"{what(key)} is one too many: at most {Limits.ModuleKeys} keys are read, {Limits.KeyPatterns} of them regular "
                    + "expressions.", target, "Write fewer keys: one may match many modules.");
            }

            all.Add((key, isName ? null : new ForeignPattern($@"\A(.*\.)?({translate(key)})\z", error, what(key), target)));
        }

        _keys = [.. all];
    }

    /// <summary>The place of the first key that matches a module; -1 if none does.</summary>
    public int Find(string module) => Array.FindIndex(_keys, k => IsMatch(k.Key, k.Pattern, module));

    /// <summary>The keys that match none of some modules.</summary>
    public IEnumerable<string> Unused(IReadOnlyList<string> modules) =>
        _keys.Where(k => !modules.Any(m => IsMatch(k.Key, k.Pattern, m))).Select(k => k.Key);

    private static bool IsName(string key) => !key.AsSpan().ContainsAnyExcept(Names);

    private static bool IsMatch(string key, ForeignPattern? pattern, string module)
    {
        if (pattern is not null)
        {
            return pattern.IsMatch(module);
        }

        var at = module.Length - key.Length;
        if (at < 0 || (at > 0 && module[at - 1] != '.'))
        {
            return false;
        }

        // A dot of an expression is any character.
        for (var i = key.Length - 1; i >= 0; i--)
        {
            if (key[i] != module[at + i] && key[i] != '.')
            {
                return false;
            }
        }

        return true;
    }
}
