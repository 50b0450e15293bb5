namespace UnslothMerge.Tests.Verification;

/// <summary>A plan that places something wrongly is found out, though the saved model agrees with it.</summary>
public sealed class WrongPlanTests : IDisposable
{
    private const string Attention = "model.layers.0.self_attn.";
    private const string Experts = "model.layers.0.mlp.experts.";

    private readonly TemporaryDirectory _directory = new();

    public void Dispose() => _directory.Dispose();

    [Theory]
    [InlineData("lora-all-linear", $"{Attention}k_proj.weight", $"{Attention}v_proj.weight", "Adapter")]
    [InlineData("lora-all-linear", $"{Attention}q_proj.weight", "model.layers.1.self_attn.q_proj.weight", "Adapter")]
    [InlineData("moe-qwen3-per-expert", $"{Experts}1.gate_proj.weight", $"{Experts}2.gate_proj.weight", "Adapter")]
    [InlineData("moe-qwen3-per-expert", $"{Experts}1.gate_proj.weight", $"{Experts}1.up_proj.weight", "Adapter")]
    [InlineData("moe-qwen3-grouped-marked", $"{Experts}1.gate_proj.weight", $"{Experts}2.gate_proj.weight", "Merged")]
    [InlineData("moe-qwen3-grouped-marked", $"{Experts}1.gate_proj.weight", $"{Experts}1.up_proj.weight", "Merged")]
    public void Deltas_exchanged(string name, string first, string second, string check)
    {
        var plan = Plan(name);
        var (a, b) = (plan.Tensors.Single(t => t.Name == first), plan.Tensors.Single(t => t.Name == second));
        Failure(Changed(plan, t => t == a ? a with { Terms = b.Terms } : t == b ? b with { Terms = a.Terms } : t), check);
    }

    [Theory]
    [InlineData("lora-all-linear", $"{Attention}k_proj.weight")]
    [InlineData("moe-qwen3-grouped-marked", $"{Experts}1.gate_proj.weight")]
    public void Delta_lost(string name, string tensor) => Assert.Contains(
        tensor,
        Failure(
            Changed(Plan(name), t => t.Name == tensor ? t with { Terms = [], Action = TensorAction.Copy } : t), "Adapter").Detail,
        StringComparison.Ordinal);

    [Fact]
    public void Delta_twice() => Failure(
        Changed(Plan("lora-all-linear"), t => t.Name == $"{Attention}k_proj.weight" ? t with { Terms = [.. t.Terms, .. t.Terms] } : t),
        "Merged");

    [Fact]
    public void Layout_of_experts_confused()
    {
        var plan = Plan("moe-qwen3-grouped-marked");
        var other = MergePlanner.Plan(plan.Base, plan.Steps, new PlanOptions { MoeLoraLayout = MoeLoraLayout.RankMajor });
        Failure(new MergePlan(other.Base, plan.Steps, other.Tensors, other.Targets, other.Warnings, other.Config), "Merged");
    }

    [Theory]
    [InlineData("tied-lora-head")]
    [InlineData("ties-onevision-embed-saved")]
    public void Tie_kept_though_both_sides_differ(string name)
    {
        var plan = Plan(name);
        var head = plan.Tensors.Single(t => t.Name.EndsWith("lm_head.weight", StringComparison.Ordinal));
        Failure(Changed(plan, t => t == head ? null : t, plan.Base.Config), "Architecture");
    }

    [Fact]
    public void Head_of_the_old_class_left()
    {
        var plan = Plan("new-score-head");
        var old = Plan("lora-all-linear").Tensors.Single(t => t.Name == "lm_head.weight");
        var wrong = new MergePlan(
            plan.Base, plan.Steps, [.. plan.Tensors, old with { Ordinal = plan.Tensors.Count, Terms = [], Action = TensorAction.Copy }],
            plan.Targets, plan.Warnings, plan.Config);
        Assert.Contains("lm_head.weight", Failure(wrong, "Architecture").Detail, StringComparison.Ordinal);
    }

    [Fact]
    public void Prefix_of_the_old_class_left() => Failure(
        Changed(Plan("head-bert"), t => t with { Name = t.Name.Replace("bert.", "", StringComparison.Ordinal) }), "Architecture");

    [Fact]
    public void Class_of_the_base_left()
    {
        var plan = Plan("new-score-head");
        Failure(Changed(plan, t => t, plan.Base.Config), "Architecture");
    }

    [Fact]
    public void Tensor_of_the_base_lost() =>
        Assert.Contains("model.norm.weight is lost",
            Failure(Changed(Plan("lora-all-linear"), t => t.Name == "model.norm.weight" ? null : t), "Architecture").Detail,
            StringComparison.Ordinal);

    private static MergePlan Plan(string name)
    {
        var @case = new GoldenCase(name);
        return TinyModel.Plan(@case.Base, [.. @case.Adapters.Select(a => a.Path)]);
    }

    private static MergePlan Changed(MergePlan plan, Func<LogicalTensor, LogicalTensor?> change, ModelConfig? config = null) => new(
        plan.Base, plan.Steps, [.. plan.Tensors.Select(change).OfType<LogicalTensor>().Select((t, i) => t with { Ordinal = i })],
        plan.Targets, plan.Warnings, config ?? plan.Config);

    private VerificationResult Failure(MergePlan plan, string check)
    {
        TinyModel.Save(TinyModel.WritePlan(plan), _directory["out"]);
        var result = ModelVerifier.Verify(plan, plan.Tensors, _directory["out"], new VerificationOptions(true, 2), null,
            TestContext.Current.CancellationToken).Single(r => r.Check == check);
        Assert.False(result.Passed, result.Detail);
        return result;
    }
}
