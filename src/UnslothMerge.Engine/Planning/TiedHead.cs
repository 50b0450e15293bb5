using UnslothMerge.Adapters;
using UnslothMerge.Adapters.Terms;

namespace UnslothMerge.Planning;

/// <summary>
/// The output head of a model that shares its weight with the input embedding and has no tensor of its own, or one with the same values.
/// While adapters are placed it is a tensor like any other; afterwards it is written only if the two sides have become different. What
/// PEFT's forward pass does decides: LoRA on one side, or a saved module, changes that side only; new token rows change both.
/// </summary>
internal sealed partial class TiedHead
{
    private static readonly string[] HeadedClasses = ["ForCausalLM", "LMHeadModel", "ForConditionalGeneration"];

    private readonly LogicalTensor _embedding;
    private readonly string _name;

    /// <summary>The head's name.</summary>
    public string Name => _name;

    /// <summary>True if the checkpoint stores the shared weight twice.</summary>
    public bool IsStored { get; private init; }

    /// <summary>Other embeddings that share the weight and are not stored: untied, they need tensors of their own.</summary>
    private IReadOnlyList<string> Others { get; init; } = [];

    private TiedHead(LogicalTensor embedding, string name)
    {
        _embedding = embedding;
        _name = name;
    }

    /// <summary>
    /// Finds the tied head of a model; null if it has a head of its own, or none. Transformers does not tie what is stored with different
    /// values.
    /// </summary>
    public static TiedHead? Find(IReadOnlyList<LogicalTensor> tensors, ModelConfig config, CheckpointNames names)
    {
        var (embedding, head) = Pair(tensors, config, names);
        if (!config.TiesWordEmbeddings || embedding is null)
        {
            return null;
        }

        if (tensors.FirstOrDefault(t => t.Name == head) is { } stored)
        {
            return AreSame(embedding, stored) ? new TiedHead(embedding, head) { IsStored = true } : null;
        }

        // Older multi-modal checkpoints keep the whole language model, head included, below one prefix.
        const string prefix = "language_model.";
        var below = embedding.Name.StartsWith(prefix, StringComparison.Ordinal) && !head.StartsWith(prefix, StringComparison.Ordinal);
        return new TiedHead(embedding, below ? prefix + head : head) { Others = OthersOf(names, head) };
    }

    /// <summary>The changed embedding of a model that ties it to a head of which only the config knows; null if there is none.</summary>
    public static LogicalTensor? ChangedWithoutHead(IReadOnlyList<LogicalTensor> tensors, ModelConfig config, CheckpointNames names) =>
        config.SaysTied && !tensors.Any(t => TensorNames.IsOutputHead(t.Name))
            && (names.Class.IsKnown ? Pair(tensors, config, names) is (null, not "") : !config.Architectures.Any(Headless().IsMatch))
        ? tensors.FirstOrDefault(t => t.IsChanged && (TensorNames.IsInputEmbedding(t.Name) || t.Terms.Any(w =>
            w.Term is RowReplacementTerm || w.Term.Inputs.Any(i => i.Name.Contains("lora_embedding_", StringComparison.Ordinal)))))
        : null;

    // The embedding and the head's name: as the class has them, or what they are usually called.
    private static (LogicalTensor? Embedding, string Head) Pair(
        IReadOnlyList<LogicalTensor> tensors, ModelConfig config, CheckpointNames names)
    {
        var tied = names.Class.Tied;
        if (names.Class.IsKnown)
        {
            var (head, source) = tied.FirstOrDefault(p =>
            p.Key.EndsWith(".weight", StringComparison.Ordinal) && !TensorNames.IsInputEmbedding(p.Key));
            if (head is null)
            {
                return (null, "");
            }

            // The embedding may be stored under the name of any of its users; the head, where it is stored, under an older name.
            var name = tied.Where(p => p.Value == source && p.Key != head).Select(p => p.Key).Prepend(source)
            .Select(names.Find).FirstOrDefault(n => n is not null);
            var older = names.AtRunTime("embed_out.weight") == head ? "embed_out.weight" : head;
            return (tensors.FirstOrDefault(t => t.Name == name), names.Find(head) ?? older);
        }

        var heads = tensors.Where(t => TensorNames.IsOutputHead(t.Name)).Select(t => t.Name).ToList();
        var hasHead = config.Architectures.Any(a => HeadedClasses.Any(c => a.EndsWith(c, StringComparison.Ordinal))) && heads.Count <= 1;
        var embedding = TensorNames.TextEmbedding(tensors.Select(t => t.Name));
        return (hasHead ? tensors.FirstOrDefault(t => t.Name == embedding) : null, heads.FirstOrDefault("lm_head.weight"));
    }

    // BART's encoder and decoder have one each.
    private static IReadOnlyList<string> OthersOf(CheckpointNames names, string head) =>
        !names.Class.Tied.TryGetValue(names.AtRunTime(head), out var source) ? []
        : [.. names.Class.Tied.Concat(names.Class.TiedBelow)
            .Where(p => p.Value == source && TensorNames.IsInputEmbedding(p.Key)).Select(p => p.Key)
            .Prepend(source).Distinct().Where(n => names.Find(n) is null)];

    /// <summary>The head as a tensor: what the embedding is.</summary>
    public LogicalTensor ToTensor(int ordinal) => _embedding with { Name = _name, Ordinal = ordinal };

    /// <summary>Decides, once all adapters are placed, what becomes of the tie; true if the two sides are no longer tied. The head is
    /// removed or kept as a tensor of its own; <paramref name="keepTied"/> folds a change of one side into the shared weight.</summary>
    public bool Resolve(TensorList tensors, bool keepTied, ICollection<MergeWarning> warnings)
    {
        var embedding = tensors[_embedding.Ordinal];
        var place = tensors.First(t => t.Name == _name).Ordinal;
        var head = WithTokenRows(tensors[place], embedding);
        if (AreSame(embedding, head))
        {
            Put(IsStored ? head : null);
            return false;
        }

        if (keepTied)
        {
            var shared = Fold(embedding, head);
            tensors[_embedding.Ordinal] = shared;
            Put(IsStored ? shared with { Name = _name, Ordinal = place } : null);
            warnings.Add(new MergeWarning(
                MergeWarningId.StaysTied,
                $"'{embedding.Name}' and the head stay tied, so a change of one changes the other: the merged model "
                + "differs from base and adapter."));
            return false;
        }

        warnings.Add(new MergeWarning(
            MergeWarningId.Untied,
            $"'{embedding.Name}' and '{_name}' differ after the merge: both are written, and tie_word_embeddings becomes false. Use "
            + "-KeepTied to add both changes to the shared weight."));
        Put(head);
        foreach (var name in Others)
        {
            tensors.Add(embedding with { Name = name, Ordinal = tensors.Count });
        }

        return embedding.Shape.SequenceEqual(head.Shape)
            ? true
            : throw new MergeException(
                MergeError.AdapterDoesNotFit,
                $"An adapter resizes '{embedding.Name}' to {embedding.Shape.Text()}, but the tied head '{_name}' would keep "
                + $"{head.Shape.Text()}.",
                embedding.Name,
                "Use -KeepTied, if the head was trained with the embedding; else save the adapter with both in modules_to_save.");

        void Put(LogicalTensor? result)
        {
            if (result is null)
            {
                tensors.Remove(place);
            }
            else
            {
                tensors[place] = result;
            }
        }
    }

    // PEFT mirrors trained token rows of the embedding to the tied head, unless the head has rows of its own.
    private static LogicalTensor WithTokenRows(LogicalTensor head, LogicalTensor embedding)
    {
        var own = head.Terms.Where(t => t.Term is RowReplacementTerm).Select(t => t.Adapter).ToList();
        var rows = embedding.Terms.Where(t => t.Term is RowReplacementTerm && !own.Contains(t.Adapter)).ToList();
        return rows.Count == 0
            ? head
            : head with
            {
                Terms = [.. head.Terms, .. rows],
                Action = head.Action is TensorAction.Replace ? head.Action : TensorAction.Merge,
                Adapters = [.. head.Adapters.Union(embedding.Adapters)],
                SpecialView = embedding.SpecialView,
            };
    }

    private LogicalTensor Fold(LogicalTensor embedding, LogicalTensor head)
    {
        var (first, second) = (AreSame(embedding, _embedding), AreSame(head, _embedding));
        return first ? head with { Name = embedding.Name, Ordinal = embedding.Ordinal }
            : second ? embedding
            : throw new MergeException(
                MergeError.InvalidOption,
                $"'{embedding.Name}' and its tied head have different changes, which one shared weight cannot hold.",
                embedding.Name,
                "Merge without -KeepTied.");
    }

    private static bool AreSame(LogicalTensor a, LogicalTensor b) =>
        SameSource(a.Source, b.Source) && a.Terms.Length == b.Terms.Length && a.Terms.Zip(b.Terms).All(p => SameTerm(p.First, p.Second));

    private static bool SameSource(TensorSource a, TensorSource b) => a.Equals(b)
        || (a.Shape.SequenceEqual(b.Shape) && a.Verbatim is { } x && b.Verbatim is { } y && x.Type == y.Type && SameValues.Equal(x, y));

    // With ensure_weight_tying the head's A and B are the embedding's B and A, transposed: the same delta, seen from the other side.
    private static bool SameTerm(WeightedTerm a, WeightedTerm b) => a == b || ReferenceEquals(a.Term, b.Term)
        || (a.Weight == b.Weight && a.Term is LowRankTerm x && b.Term is LowRankTerm y && x.Scaling == y.Scaling
            && SameValues.Equal(x.Left, y.Left) && SameValues.Equal(x.Right, y.Right))
        || (a.Weight == b.Weight && a.Term is RowReplacementTerm r && b.Term is RowReplacementTerm s && r.HasIndicesOf(s)
            && r.Inputs[0].Type == s.Inputs[0].Type && SameValues.Equal(r.Inputs[0], s.Inputs[0]));

    [GeneratedRegex("(Model|Classification|QuestionAnswering|MultipleChoice)$", RegexOptions.ExplicitCapture)]
    private static partial Regex Headless();
}
