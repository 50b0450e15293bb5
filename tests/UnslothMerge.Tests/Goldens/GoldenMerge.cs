using System.Collections.Frozen;

namespace UnslothMerge.Tests.Goldens;

/// <summary>Does what a golden case says.</summary>
internal static class GoldenMerge
{
    private static readonly FrozenSet<string> KnownOptions =
        new[] { "BaseIsResidual", "DType", "Method", "DoubleQuantization", "MoeLoraLayout", "MoeOrientation" }.ToFrozenSet();

    /// <summary>Merges a case as its options say, and saves it.</summary>
    public static MergePlan Save(GoldenCase @case, string output)
    {
        if (@case.Options.Keys.FirstOrDefault(o => !KnownOptions.Contains(o)) is { } option)
        {
            throw new MergeException(MergeError.InvalidOption, $"The option {option} is not known.");
        }

        var adapters = @case.Adapters.Select(a => new AdapterStep(AdapterDirectory.Open(a.Path), a.Weight));
        var options = new PlanOptions
        {
            BaseIsResidual = @case.Options.TryGetValue("BaseIsResidual", out var residual) && residual.GetBoolean(),
            MoeLoraLayout = Parse<MoeLoraLayout>(@case, "MoeLoraLayout"),
            MoeOrientation = Parse<MoeOrientation>(@case, "MoeOrientation"),
        };
        var plan = MergePlanner.Plan(ModelDirectory.Open(@case.Base), adapters, options);
        var method = @case.Options.TryGetValue("Method", out var m) ? m.GetString()! : "merged_16bit";
        var destination = Destination.Check(output, [("base", @case.Base)], force: false);
        switch (method)
        {
            case "merged_16bit" or "merged_4bit":
                var type = @case.Options.TryGetValue("DType", out var t) ? TensorTypes.FromTorchName(t.GetString()) : null;
                var write = WritePlan.Create(plan, plan.Tensors, new WriteOptions(type, 5_000_000_000)
                {
                    Quantization = method == "merged_4bit"
                        ? new FourBitRequest(null, @case.Options.TryGetValue("DoubleQuantization", out var d) ? d.GetBoolean() : null,
                            null, null) : null,
                });
                var run = new RunOptions(ExecutionPlan.For(write, new MemoryLimit(long.MaxValue), 2), Sync: false);
                ModelSaver.Save(destination, method, run, null, TestContext.Current.CancellationToken);
                break;
            case "lora":
                AdapterSaver.Save(plan, destination, sync: false);
                break;
            default:
                throw new MergeException(MergeError.InvalidOption, $"The method {method} is not known.");
        }

        return plan;
    }

    private static T? Parse<T>(GoldenCase @case, string option)
        where T : struct, Enum =>
            @case.Options.TryGetValue(option, out var value) ? Enum.Parse<T>(value.GetString()!, ignoreCase: true) : null;
}
