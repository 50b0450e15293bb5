using ArchUnitNET.Domain;
using ArchUnitNET.Loader;

namespace UnslothMerge.Tests;

/// <summary>Compares the engine with the table of CONTRIBUTING.md that says which folder may use which.</summary>
public sealed partial class DependencyTests
{
    private const string Root = "UnslothMerge";
    private const string Above = "the above";

    private static readonly string Engine = Path.Combine(Fixtures.Root, "src", "UnslothMerge.Engine");
    private static readonly string Text = File.ReadAllText(Path.Combine(Fixtures.Root, "CONTRIBUTING.md"));
    private static readonly Dictionary<string, HashSet<string>> Allowed = ReadTable();
    private static readonly List<string> Tables = Names(Registries().Match(Text).Value);

    // Folder and name of the type that uses, and of the one that is used. A type parameter has no folder of its own.
    private static readonly Lazy<List<((string Folder, string Type) From, (string Folder, string Type) To)>> Uses = new(() =>
        [.. new ArchLoader().LoadAssembly(typeof(MergePlanner).Assembly).Build().Types
            .SelectMany(t => t.Dependencies.Where(d => d.Target is not GenericParameter).Select(d => (Place(t), Place(d.Target))))
            .Where(u => u.Item1.Folder != u.Item2.Folder && u.Item1.Folder != "-" && u.Item2.Folder != "-")
            .Distinct()]);

    [Fact]
    public void Every_folder_has_a_row() => Assert.Equal(
        Directory.EnumerateFiles(Engine, "*.cs", SearchOption.AllDirectories)
            .Select(f => Path.GetRelativePath(Engine, Path.GetDirectoryName(f)!).Replace('\\', '/')).Except(["."]).Order(),
        Allowed.Keys.Order());

    [Fact]
    public void Folders_use_what_the_table_allows()
    {
        Assert.NotEmpty(Uses.Value);
        var wrong = Uses.Value.Where(u => !IsAllowed(u.From, u.To)).Select(u => $"{u.From} uses {u.To}").ToList();
        Assert.True(wrong.Count == 0, string.Join('\n', wrong));
    }

    [Fact]
    public void Tables_that_name_classes_below_their_folder_do()
    {
        Assert.Equal(4, Tables.Count);
        Assert.All(Tables, t => Assert.Contains(Uses.Value, u => u.From.Type == t && !Allowed[u.From.Folder].Contains(u.To.Folder)));
    }

    /// <summary>What proves a plan shares data with it, and no rule.</summary>
    [Fact]
    public void The_proof_of_a_plan_uses_data_alone() => Assert.Empty(
        Uses.Value.Where(u => u.From.Folder == "Verification/Placement" && u.To.Folder is not ("Safetensors" or "")).Select(u => u.To.Type)
            .Distinct().Except(["TransformersData", "JsonFile", "FactorMatrix", "Slice", "MatrixPlace"]));

    private static bool IsAllowed((string Folder, string Type) from, (string Folder, string Type) to) =>
        to.Folder.Length == 0 || Allowed.GetValueOrDefault(from.Folder)?.Contains(to.Folder) == true || Tables.Contains(from.Type);

    private static (string Folder, string Type) Place(IType type)
    {
        var space = type.Namespace?.FullName ?? "";
        var folder = space == Root ? ""
            : space.StartsWith($"{Root}.", StringComparison.Ordinal) ? space[(Root.Length + 1)..].Replace('.', '/')
            : "-";
        var outermost = type.FullName.Split('+', '/')[0];
        return (folder, outermost[(outermost.LastIndexOf('.') + 1)..]);
    }

    private static Dictionary<string, HashSet<string>> ReadTable()
    {
        var table = new Dictionary<string, HashSet<string>>();
        foreach (Match row in Row().Matches(Text))
        {
            var parts = row.Groups["may"].Value.Split(", but not ");
            var may = parts[0] == Above ? [.. table.Keys] : Names(parts[0]);
            table[row.Groups["folder"].Value] = [.. may.Except(parts.Skip(1).SelectMany(Names))];
        }

        return table;
    }

    private static List<string> Names(string text) => [.. Name().Matches(text).Select(m => m.Groups[1].Value)];

    [GeneratedRegex(@"^\| `(?<folder>[A-Za-z/]+)/` \|.*\| (?<may>[^|]+) \|$", RegexOptions.Multiline)]
    private static partial Regex Row();

    [GeneratedRegex("`([A-Za-z/]+)`")]
    private static partial Regex Name();

    [GeneratedRegex(@"nothing else\s+does: .*")]
    private static partial Regex Registries();
}
