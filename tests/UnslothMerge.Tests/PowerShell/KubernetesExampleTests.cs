using k8s;
using k8s.Models;

namespace UnslothMerge.Tests.PowerShell;

/// <summary>Reads the manifests into the API's own types, which refuse what the API does not know.</summary>
public sealed class KubernetesExampleTests
{
    [Fact]
    public void The_parts_are_an_indexed_job()
    {
        var job = Read("merge.yaml");
        var container = Assert.Single(job.Spec.Template.Spec.Containers);
        Assert.Equal("Indexed", job.Spec.CompletionMode);
        Assert.Equal(job.Spec.Completions, job.Spec.Parallelism);
        Assert.Equal($"{job.Spec.Completions}", Assert.Single(container.Env, e => e.Name == "JOB_COMPLETIONS").Value);
        Assert.Equal("part.ps1", Path.GetFileName(container.Command[^1]));
        Assert.Equal(new Part(8, 8), Part.Parse("env", new Dictionary<string, string>
        {
            ["JOB_COMPLETION_INDEX"] = "7", ["JOB_COMPLETIONS"] = $"{job.Spec.Completions}",
        }.GetValueOrDefault));
    }

    [Theory]
    [InlineData("merge.yaml")]
    [InlineData("complete.yaml")]
    public void What_must_change_first_is_not_tried_again_and_what_a_pod_mounts_is_there(string file)
    {
        var job = Read(file);
        var (pod, rules) = (job.Spec.Template.Spec, job.Spec.PodFailurePolicy.Rules);
        var container = Assert.Single(pod.Containers);
        Assert.Equal("batch/v1 Job", $"{job.ApiVersion} {job.Kind}");

        // The API takes a failure policy with no other restart policy.
        Assert.Equal("Never", pod.RestartPolicy);
        var fails = Assert.Single(rules, r => r.Action == "FailJob").OnExitCodes;
        Assert.Equal((container.Name, "In", 65), (fails.ContainerName, fails.OperatorProperty, Assert.Single(fails.Values)));
        Assert.Equal("DisruptionTarget", Assert.Single(Assert.Single(rules, r => r.Action == "Ignore").OnPodConditions).Type);
        Assert.Equal(pod.Volumes.Select(v => v.Name).Order(), container.VolumeMounts.Select(m => m.Name).Order());
        Assert.True(File.Exists(Path.Combine(Fixtures.Root, "examples", Path.GetFileName(container.Command[^1]))));
    }

    private static V1Job Read(string file) => KubernetesYaml.Deserialize<V1Job>(
        File.ReadAllText(Path.Combine(Fixtures.Root, "examples", "kubernetes", file)), strict: true);
}
