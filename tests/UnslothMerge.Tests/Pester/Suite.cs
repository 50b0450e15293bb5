using System.Collections;
using System.Management.Automation;

namespace UnslothMerge.Tests.Pester;

/// <summary>The four kinds of script block that run around tests.</summary>
internal enum Setup
{
    BeforeAll,
    BeforeEach,
    AfterEach,
    AfterAll,
}

internal enum Result
{
    Passed,
    Failed,
    Skipped,
}

/// <summary>How an It ended.</summary>
/// <param name="Result">Its end.</param>
/// <param name="Detail">PowerShell's message and position, or the reason of a skip.</param>
internal sealed record Outcome(Result Result, string Detail = "");

/// <summary>One item of a -ForEach.</summary>
/// <param name="Item">What $_ is; the keys of a hashtable become variables too.</param>
internal sealed record Iteration(object? Item)
{
    public IEnumerable<KeyValuePair<string, object?>> Variables
    {
        get
        {
            yield return new("_", Item);
            var item = Item is PSObject wrapped ? wrapped.BaseObject : Item;
            if (item is not IDictionary keys)
            {
                yield break;
            }

            foreach (DictionaryEntry entry in keys)
            {
                yield return new(LanguagePrimitives.ConvertTo<string>(entry.Key), entry.Value);
            }
        }
    }
}

/// <summary>A Describe, a Context or an It, as discovery left it.</summary>
internal abstract class Node(Block? parent, string name, Iteration? iteration)
{
    public Block? Parent { get; } = parent;

    public string Name { get; } = name;

    public Iteration? Iteration { get; } = iteration;

    public IReadOnlyList<string> Tags { get; init; } = [];

    /// <summary>Why this node itself is skipped; null when it is not.</summary>
    public string? OwnSkip { get; init; }

    public string? Skip => OwnSkip ?? Parent?.Skip;

    /// <summary>The names from the outermost Describe on, joined as Pester joins them.</summary>
    public string FullName => Parent is null or { Parent: null } ? Name : $"{Parent.FullName}.{Name}";

    public IEnumerable<string> AllTags => Parent is null ? Tags : Parent.AllTags.Concat(Tags);
}

internal sealed class Block(Block? parent, string name, Iteration? iteration) : Node(parent, name, iteration)
{
    /// <summary>Its and blocks in the order in which they run: as written.</summary>
    public List<Node> Items { get; } = [];

    public Dictionary<Setup, ScriptBlock> Setups { get; } = [];

    public IEnumerable<It> Its => Items.SelectMany(item => item is Block block ? block.Its : [(It)item]);

    /// <summary>The blocks from the outermost to this one.</summary>
    public IEnumerable<Block> Path => Parent is null ? [this] : Parent.Path.Append(this);
}

internal sealed class It(Block parent, string name, Iteration? iteration, ScriptBlock body) : Node(parent, name, iteration)
{
    public ScriptBlock Body { get; } = body;

    /// <summary>The full name, with a number where the file has it more than once.</summary>
    public string Key { get; set; } = "";

    /// <summary>Null until the file has run.</summary>
    public Outcome? Outcome { get; set; }
}
