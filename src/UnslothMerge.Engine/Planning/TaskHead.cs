using UnslothMerge.Adapters;
using UnslothMerge.Models;

namespace UnslothMerge.Planning;

/// <summary>
/// The head of a new task on a language model: an adapter with the task type SEQ_CLS or TOKEN_CLS brings it, the base has a language-model
/// head instead. Source: PEFT 0.21, <c>PeftModelForSequenceClassification</c>; transformers' class names.
/// </summary>
internal static class TaskHead
{
    private static readonly Dictionary<string, string> ClassOfTask = new(StringComparer.Ordinal)
    {
        ["SEQ_CLS"] = "ForSequenceClassification",
        ["TOKEN_CLS"] = "ForTokenClassification",
    };

    private static readonly string[] Modules = ["score", "classifier"];

    /// <summary>True if a saved module is such a head.</summary>
    public static bool Is(AdapterConfig adapter, ModelConfig model, string module) =>
        adapter.TaskType is { } task && ClassOfTask.ContainsKey(task) && Modules.Contains(module, StringComparer.Ordinal)
        && model.Architectures.Any(a => new[] { "ForCausalLM", "LMHeadModel", ClassOfTask[task] }.Any(end => a.EndsWith(end, StringComparison.Ordinal)));

    /// <summary>The model's config with the task's class, and as many labels as the head has rows.</summary>
    public static ModelConfig Apply(ModelConfig model, AdapterConfig adapter, long labels) =>
        model.ForTask(ClassOfTask[adapter.TaskType!], labels);
}
