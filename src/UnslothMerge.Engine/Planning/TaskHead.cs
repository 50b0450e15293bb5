using UnslothMerge.Adapters;

namespace UnslothMerge.Planning;

/// <summary>
/// The head of a new task: an adapter with the task type SEQ_CLS, TOKEN_CLS or QUESTION_ANS brings it, the base has another head, or none.
/// The result is a model of the class that transformers has for the task. Source: PEFT 0.21, <c>PeftModelForSequenceClassification</c>;
/// <c>transformers.json</c>.
/// </summary>
internal sealed partial class TaskHead
{
    private static readonly Dictionary<string, (string Task, string Ending)> Tasks = new(StringComparer.Ordinal)
    {
        ["SEQ_CLS"] = ("sequence", "ForSequenceClassification"),
        ["TOKEN_CLS"] = ("token", "ForTokenClassification"),
        ["QUESTION_ANS"] = ("question", "ForQuestionAnswering"),
    };

    // The heads of most classes.
    private static readonly string[] Usual =
        ["score.weight", "score.bias", "classifier.weight", "classifier.bias", "qa_outputs.weight", "qa_outputs.bias"];

    private readonly ModelClass _class;
    private readonly IReadOnlyList<string> _parameters;
    private readonly Dictionary<string, StoredTensor> _brought = new(StringComparer.Ordinal);

    private TaskHead(ModelClass @class, string name) =>
        (_class, _parameters, Class) = (@class, @class.Head.Count > 0 ? @class.Head : Usual, name);

    /// <summary>The class of the result.</summary>
    public string Class { get; }

    /// <summary>The head that an adapter may bring; null if its task has none.</summary>
    public static TaskHead? Of(AdapterConfig adapter, ModelConfig model)
    {
        if (adapter.TaskType is null || !Tasks.TryGetValue(adapter.TaskType, out var task))
        {
            return null;
        }

        if (model.ModelType is { } type && ModelClass.OfTask(task.Task, type) is { } known)
        {
            return new TaskHead(ModelClass.Of(known, model), known);
        }

        var old = model.Architectures.FirstOrDefault(a => LanguageModel().IsMatch(a) || a.EndsWith(task.Ending, StringComparison.Ordinal));
        return old is null ? null
            : new TaskHead(ModelClass.Of(model), LanguageModel().Replace(old, task.Ending));
    }

    /// <summary>The name of a parameter of the head; null if it is none.</summary>
    public string? NameOf(string parameter) =>
        _parameters.FirstOrDefault(p => p == parameter || parameter.EndsWith("." + p, StringComparison.Ordinal));

    /// <summary>Takes a parameter of the head.</summary>
    public void Bring(string name, StoredTensor tensor) => _brought[name] = tensor;

    /// <summary>The tensors of the result under its class's names: the body as far as the class has it, the head, nothing of the old
    /// head.</summary>
    public IReadOnlyList<LogicalTensor> Apply(IReadOnlyList<LogicalTensor> tensors, CheckpointNames names, ModelClass old)
    {
        var result = tensors.Select(t => t.Action == TensorAction.Add ? t : OfBody(t, names.AtRunTime(t.Name), old))
            .OfType<LogicalTensor>().ToList();
        var missing = _class.Head.Where(p => !result.Exists(t => t.Name == p)).ToList();
        return missing.Count == 0 ? result : throw new MergeException(
            MergeError.AdapterDoesNotFit,
            $"The merged model would be a {Class}, but {string.Join(", ", missing)} of its head are neither in the adapter nor in the " +
                "base.",
            missing[0],
            "Train the adapter with the whole head in modules_to_save, or use a base that has it.");
    }

    /// <summary>The result's config: as many labels as the head has outputs.</summary>
    public ModelConfig Apply(ModelConfig model)
    {
        var shapes = _parameters.Where(_brought.ContainsKey).Select(p => _brought[p].Shape).ToList();
        var labels = shapes.LastOrDefault(s => s.Count > 1 || (s.Count == 1 && shapes.Count == 1))?[0];
        return labels is > 0 and <= Limits.Labels ? model.ForTask(Class, labels.Value) : throw new MergeException(
            MergeError.AdapterDoesNotFit,
            $"The adapter brings the head of a {Class}, but its tensors ({string.Join(", ", shapes.Select(s => s.Text()))}) have no matrix "
            + $"with a row for each label; a model may have 1 to {Limits.Labels} labels.",
            _brought.Keys.First(),
            "Train the adapter with the whole head in modules_to_save.");
    }

    private LogicalTensor? OfBody(LogicalTensor tensor, string name, ModelClass old)
    {
        if (_class.Head.Contains(name))
        {
            return tensor;
        }

        if (old.Head.Contains(name) || (!old.IsKnown && TensorNames.IsOutputHead(name)))
        {
            return null;
        }

        var (from, to) = (old.Prefix + ".", _class.Prefix + ".");
        if (_class.Body.Count == 0)
        {
            return TensorNames.IsOutputHead(name) ? null : tensor;
        }

        bool Has(string part) => _class.Body.Contains(part.Split('.')[0]);
        return name.StartsWith(to, StringComparison.Ordinal) && Has(name[to.Length..]) ? tensor
            : Has(name) ? tensor with { Name = to + tensor.Name }
            : name.StartsWith(from, StringComparison.Ordinal) && Has(name[from.Length..])
                ? tensor with { Name = tensor.Name.StartsWith(from, StringComparison.Ordinal)
                    ? to + tensor.Name[from.Length..] : tensor.Name }
            : null;
    }

    [GeneratedRegex("(ForCausalLM|LMHeadModel)$")]
    private static partial Regex LanguageModel();
}
