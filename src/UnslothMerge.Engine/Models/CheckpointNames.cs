namespace UnslothMerge.Models;

/// <summary>
/// Finds the tensor of a checkpoint that a module of the running model stands for. Adapters name modules as they are called at run time;
/// checkpoints may have been saved under other names. Every rule is a row of a table; nothing is guessed.
/// </summary>
public sealed class CheckpointNames
{
    private readonly Dictionary<string, string> _byRuntimeName = new(StringComparer.Ordinal);

    // Prefixes that a model class puts before its backbone, and a checkpoint of the bare backbone has not (or the other way round).
    // Source: transformers, base_model_prefix of the model classes.
    private static readonly string[] BackbonePrefixes = ["model.", "transformer.", "gpt_neox.", "bert.", "roberta."];

    // Renames from checkpoint to run time, with their source.
    private static readonly (string ModelType, string Checkpoint, string Runtime)[] Renames =
    [
        ("gpt_neox", "embed_out.", "lm_head."), // transformers 5, conversion mapping of gpt_neox
    ];

    /// <summary>Indexes a checkpoint's tensors under both spellings.</summary>
    public CheckpointNames(IEnumerable<string> names, ModelConfig config)
    {
        foreach (var name in names)
        {
            _byRuntimeName[name] = name;
            foreach (var rename in Renames.Where(r => r.ModelType == config.ModelType && name.StartsWith(r.Checkpoint, StringComparison.Ordinal)))
            {
                _byRuntimeName.TryAdd(rename.Runtime + name[rename.Checkpoint.Length..], name);
            }
        }
    }

    /// <summary>The checkpoint's name of a tensor, or null if it has none.</summary>
    /// <param name="runtimeName">The name in the running model, for example <c>model.layers.0.mlp.up_proj.weight</c>.</param>
    public string? Find(string runtimeName)
    {
        if (_byRuntimeName.TryGetValue(runtimeName, out var name))
        {
            return name;
        }

        foreach (var prefix in BackbonePrefixes)
        {
            var other = runtimeName.StartsWith(prefix, StringComparison.Ordinal) ? runtimeName[prefix.Length..] : prefix + runtimeName;
            if (_byRuntimeName.TryGetValue(other, out name))
            {
                return name;
            }
        }

        return null;
    }

    /// <summary>The names of the checkpoint that are most like a name that it has not; best first.</summary>
    public IReadOnlyList<string> Nearest(string runtimeName, int count = 3) =>
        [.. _byRuntimeName.Values.Distinct(StringComparer.Ordinal).Select(n => (Name: n, Distance: Distance(runtimeName, n))).Where(n => n.Distance <= runtimeName.Length / 3).OrderBy(n => n.Distance).Take(count).Select(n => n.Name)];

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
}
