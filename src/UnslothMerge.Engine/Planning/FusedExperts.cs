namespace UnslothMerge.Planning;

/// <summary>The matrices of a layer's experts that lie in one tensor, [experts, rows of all parts, columns], or each turned. A checkpoint
/// of single matrices has each part of each expert by itself.</summary>
internal sealed record FusedExperts(string Module, long Count, IReadOnlyList<string> Parts, bool IsTransposed, long Rows, int Columns)
{
    private const string GateUp = "gate_up_proj";
    private const string Down = "down_proj";

    /// <summary>The modules of the single matrices, in the order of their rows.</summary>
    public IEnumerable<string> Modules
    {
        get
        {
            for (var e = 0L; e < Count; e++)
            {
                foreach (var part in Parts)
                {
                    yield return $"{Module}.{e}.{part}";
                }
            }
        }
    }

    /// <summary>The tensor made of its single matrices; null if one is missing, or has another shape.</summary>
    public StackedSource? Stack(Func<string, TensorSource?> find)
    {
        var parts = Modules.Select(m => find(m + ".weight")).OfType<TensorSource>().Where(p => p.Shape.SequenceEqual([Rows, Columns]))
            .ToList();
        return parts.Count == Count * Parts.Count ? new StackedSource(parts, Parts.Count, IsTransposed) : null;
    }

    /// <summary>What a tensor holds; null if it is no such stack, or the shapes of both do not say how the matrices lie. gate_up_proj has
    /// twice the outputs of what down_proj takes, and down_proj's outputs are what gate_up_proj takes.</summary>
    public static FusedExperts? Of(string name, Func<string, IReadOnlyList<long>?> shapeOf)
    {
        var (module, part) = (TensorNames.ModuleOf(name), name[(name.LastIndexOf('.') + 1)..]);
        if (part is not (GateUp or Down) || !module.EndsWith(".experts", StringComparison.Ordinal)
            || shapeOf($"{module}.{GateUp}") is not [var count, var a, var b]
            || shapeOf($"{module}.{Down}") is not [var others, var c, var d]
            || count != others)
        {
            return null;
        }

        var (plain, transposed) = (a == 2 * d && b == c, b == 2 * c && a == d);
        var (outputs, inputs) = (part, plain) switch { (GateUp, true) => (a, b), (GateUp, _) => (b, a), (_, true) => (c, d), _ => (d, c) };
        string[] parts = part == GateUp ? ["gate_proj", "up_proj"] : [Down];
        return plain || transposed
            ? new FusedExperts(module, count, parts, transposed, outputs / parts.Length, checked((int)inputs))
            : null;
    }
}
