using System.Collections;
using System.Management.Automation.Language;

namespace UnslothMerge.PowerShell.Completion;

/// <summary>Offers the usual values of a parameter that takes others as well.</summary>
internal abstract class ValueCompleter : IArgumentCompleter
{
    public IEnumerable<CompletionResult> CompleteArgument(
        string commandName, string parameterName, string wordToComplete, CommandAst commandAst, IDictionary fakeBoundParameters)
    {
        var word = CompletionText.Unquote(wordToComplete);
        return Values(fakeBoundParameters).Where(v => v.Text.StartsWith(word, StringComparison.OrdinalIgnoreCase))
            .Select(v => CompletionText.Result(v.Text, v.Tip));
    }

    private protected abstract IEnumerable<(string Text, string Tip)> Values(IDictionary parameters);
}

/// <summary>Completes -MaxShardSize.</summary>
internal sealed class ShardSizeCompleter : ValueCompleter
{
    private protected override IEnumerable<(string Text, string Tip)> Values(IDictionary parameters) =>
    [
        ("5GB", "The default, of the Hub and of Unsloth"), ("2GB", "For slow or unreliable networks"), ("10GB", "Half as many files"),
        ("50GB", "One file for most models; the most that the Hub takes"), ("4GiB", "Binary units; below the limit of FAT32"),
        ("base", "The base's shards: what does not change is shared with them, where the file system can"),
    ];
}

/// <summary>Completes -MaximumMemoryUsage.</summary>
internal sealed class MemoryCompleter : ValueCompleter
{
    private protected override IEnumerable<(string Text, string Tip)> Values(IDictionary parameters) =>
    [
        ("0.75", "The default: three quarters of the free memory"), ("50%", "Half of the free memory"),
        ("0.95", "The most that a fraction may be"), ("1GB", "For the whole process"), ("4GB", "For the whole process"),
        ("16GB", "For the whole process"),
    ];
}

/// <summary>Completes -Weight.</summary>
internal sealed class WeightCompleter : ValueCompleter
{
    private protected override IEnumerable<(string Text, string Tip)> Values(IDictionary parameters) =>
    [
        ("1", "As trained"), ("0.5", "At half strength"), ("0.7", "At 70 percent"), ("1.5", "Amplified"), ("-1", "Subtracts the adapter"),
    ];
}

/// <summary>Completes -Density.</summary>
internal sealed class DensityCompleter : ValueCompleter
{
    private protected override IEnumerable<(string Text, string Tip)> Values(IDictionary parameters) =>
    [
        ("0.5", "Keeps half of the elements of each delta"), ("0.2", "Keeps a fifth, as the paper of TIES does"),
        ("0.7", "Keeps 70 percent"), ("0.9", "Drops a tenth"),
    ];
}

/// <summary>Completes -BlockSize.</summary>
internal sealed class BlockSizeCompleter : ValueCompleter
{
    private protected override IEnumerable<(string Text, string Tip)> Values(IDictionary parameters) =>
    [
        ("64", "The default of bitsandbytes"), ("128", "Half as many absmax values"), ("256", "A quarter"), ("32", "The finest"),
    ];
}

/// <summary>Completes -GroupSize.</summary>
internal sealed class GroupSizeCompleter : ValueCompleter
{
    private protected override IEnumerable<(string Text, string Tip)> Values(IDictionary parameters) =>
        [("128", "The default: a scale for 128 columns"), ("64", "Twice as many scales"), ("32", "The finest that vLLM reads")];
}

/// <summary>Completes -ThrottleLimit.</summary>
internal sealed class ThreadsCompleter : ValueCompleter
{
    private protected override IEnumerable<(string Text, string Tip)> Values(IDictionary parameters)
    {
        var all = Environment.ProcessorCount;
        return new[] { all, all / 2, 1 }.Where(n => n > 0).Distinct()
            .Select(n => ($"{n}", n == all ? "The default: as many as processors" : Amount.Text(n, "thread")));
    }
}

/// <summary>Completes -Device.</summary>
internal sealed class DeviceCompleter : ValueCompleter
{
    private protected override IEnumerable<(string Text, string Tip)> Values(IDictionary parameters) =>
    [
        ("auto", "Whatever is faster for the work at hand"),
        ("cpu", "The processor's cores; the same bytes on every machine"),
        ("cuda", "The first NVIDIA GPU; cuda:1 is the second"),
    ];
}
