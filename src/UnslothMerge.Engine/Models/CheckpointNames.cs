using System.Globalization;
using System.Text.RegularExpressions;

namespace UnslothMerge.Models;

/// <summary>A tensor of one expert that a checkpoint stores apart: <c>experts.3.gate_proj.weight</c>.</summary>
/// <param name="Expert">The expert's number.</param>
/// <param name="Part">The module within the expert: <c>gate_proj</c>.</param>
/// <param name="Name">The name in the checkpoint.</param>
public sealed record ExpertTensor(int Expert, string Part, string Name);

/// <summary>A parameter of a module.</summary>
/// <param name="Parameter">Its name in the module: <c>weight</c>.</param>
/// <param name="Name">The name in the checkpoint.</param>
public sealed record ModuleTensor(string Parameter, string Name);

/// <summary>
/// Finds the tensor of a checkpoint that a module of the running model stands for. Adapters name modules as they were called at run time, by
/// whatever release; checkpoints may have been saved under other names. Both are compared in their newest spelling (see <see cref="NameRules"/>),
/// then with what a wrapping class adds. Nothing is guessed: a name that fits two tensors is an error.
/// </summary>
public sealed partial class CheckpointNames
{
    private readonly IReadOnlyList<NameRule> _rules;
    private readonly IReadOnlyList<Wrapping> _wrappings;
    private readonly Dictionary<string, List<string>> _byName = new(StringComparer.Ordinal);
    private readonly Dictionary<string, List<ModuleTensor>> _parameters = new(StringComparer.Ordinal);
    private readonly Dictionary<string, List<ExpertTensor>> _experts = new(StringComparer.Ordinal);

    /// <summary>Indexes a checkpoint's tensors under their newest spelling.</summary>
    public CheckpointNames(IEnumerable<string> names, ModelConfig config)
    {
        _rules = NameRules.For(config.ModelTypes);
        foreach (var name in names)
        {
            var newest = Newest(name);
            Into(_byName, newest).Add(name);
            var dot = newest.LastIndexOf('.');
            Into(_parameters, newest[..Math.Max(dot, 0)]).Add(new ModuleTensor(newest[(dot + 1)..], name));
            if (ExpertPattern().Match(newest) is { Success: true } match)
            {
                Into(_experts, match.Groups["module"].Value).Add(new ExpertTensor(int.Parse(match.Groups["expert"].ValueSpan, CultureInfo.InvariantCulture), match.Groups["part"].Value, name));
            }
        }

        // Only what the checkpoint has can be missing in an adapter; what an adapter has too much shows in its name.
        var wrappers = NameRules.Wrappers(config.ModelType);
        _wrappings = [.. wrappers.Where(w => Has(w.To) || Has(Newest(w.To))), .. wrappers.Select(w => new Wrapping(w.To, w.From))];

        bool Has(string prefix) => _byName.Keys.Any(k => k.StartsWith(prefix, StringComparison.Ordinal));
    }

    /// <summary>The checkpoint's name of a tensor, or null if it has none.</summary>
    /// <param name="runtimeName">The name in the running model, for example <c>model.layers.0.mlp.up_proj.weight</c>.</param>
    /// <exception cref="MergeException">Several tensors of the checkpoint answer to the name.</exception>
    public string? Find(string runtimeName)
    {
        var found = _byName.GetValueOrDefault(Newest(runtimeName)) ?? Wrapped(runtimeName, _byName, s => s);
        return found is null ? null : found.Count == 1 ? found[0] : throw Ambiguous(runtimeName, found);
    }

    /// <summary>The parameters that a module has itself, by their name in the module.</summary>
    /// <exception cref="MergeException">Several modules of the checkpoint answer to the name.</exception>
    public IReadOnlyList<ModuleTensor> Parameters(string module)
    {
        var found = Below(module, _parameters);
        var twice = found.GroupBy(p => p.Parameter).FirstOrDefault(g => g.Count() > 1);
        return twice is null ? found : throw Ambiguous($"{module}.{twice.Key}", twice.Select(p => p.Name));
    }

    /// <summary>The tensors of a module's experts, where each has tensors of its own.</summary>
    /// <exception cref="MergeException">Several modules of the checkpoint answer to the name.</exception>
    public IReadOnlyList<ExpertTensor> Experts(string module) => Below(module, _experts);

    /// <summary>The names of the checkpoint that are most like a name that it has not; best first.</summary>
    public IReadOnlyList<string> Nearest(string runtimeName, int count = 3)
    {
        var newest = Newest(runtimeName);
        var limit = newest.Length / 3;
        return [.. _byName.Where(p => Math.Abs(p.Key.Length - newest.Length) <= limit)
            .Select(p => (Name: p.Value[0], Distance: Distance(newest, p.Key)))
            .Where(n => n.Distance <= limit).OrderBy(n => n.Distance).Take(count).Select(n => n.Name)];
    }

    // The rules know the names of tensors: a module is looked up as if it had one without a name.
    private List<T> Below<T>(string module, Dictionary<string, List<T>> index)
    {
        var name = module + ".";
        return index.GetValueOrDefault(Newest(name)[..^1]) ?? Wrapped(name, index, n => n[..^1]) ?? [];
    }

    // With what a wrapping class puts before a name, or without it.
    private List<T>? Wrapped<T>(string name, Dictionary<string, List<T>> index, Func<string, string> key)
    {
        var hits = new Dictionary<string, List<T>>(StringComparer.Ordinal);
        foreach (var (from, to) in _wrappings.Where(w => name.StartsWith(w.From, StringComparison.Ordinal)))
        {
            var other = key(Newest(to + name[from.Length..]));
            if (index.TryGetValue(other, out var found))
            {
                hits[other] = found;
            }
        }

        return hits.Count <= 1 ? hits.Values.FirstOrDefault() : throw Ambiguous(name.TrimEnd('.'), hits.Keys);
    }

    private string Newest(string name) => _rules.Aggregate(name, (n, rule) => rule.Older.Replace(n, rule.Newer));

    private static MergeException Ambiguous(string name, IEnumerable<string> found) => new(
        MergeError.AdapterDoesNotFit,
        $"The adapter's '{name}' is ambiguous: the base has {string.Join(" and ", found.Order(StringComparer.Ordinal))}, and it could mean either.",
        name,
        "Use the base that the adapter was trained on, saved once and not twice under two names.");

    private static List<T> Into<T>(Dictionary<string, List<T>> index, string key)
    {
        if (!index.TryGetValue(key, out var list))
        {
            index.Add(key, list = []);
        }

        return list;
    }

    // Levenshtein distance; two rows of the table are enough.
    private static int Distance(string a, string b)
    {
        var previous = Enumerable.Range(0, b.Length + 1).ToArray();
        var current = new int[b.Length + 1];
        for (var i = 1; i <= a.Length; i++)
        {
            current[0] = i;
            for (var j = 1; j <= b.Length; j++)
            {
                current[j] = Math.Min(Math.Min(current[j - 1], previous[j]) + 1, previous[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1));
            }

            (previous, current) = (current, previous);
        }

        return previous[^1];
    }

    // The second form is that of gpt-oss as Unsloth splits it: experts.gate_up_projs.3.weight.
    [GeneratedRegex(@"^(?<module>.*)\.((?<expert>\d{1,6})\.(?<part>[^.\d][^.]*)|(?<part>gate_up_projs|down_projs)\.(?<expert>\d{1,6}))\.weight$", RegexOptions.ExplicitCapture | RegexOptions.CultureInvariant)]
    private static partial Regex ExpertPattern();
}
