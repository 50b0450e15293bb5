using System.CommandLine.Parsing;

namespace UnslothMerge.Bench.Commands;

/// <summary>Options that several commands have.</summary>
internal static class Options
{
    public static Option<string> Shape()
    {
        var option = new Option<string>("--shape") { Description = "The model's dimensions.", DefaultValueFactory = _ => "1b" };
        return option.AcceptOnlyFromAmong([.. ModelShape.Known.Select(s => s.Name)]);
    }

    public static Option<string> DType(params string[] names)
    {
        var option = new Option<string>("--dtype") { Description = "The dtype of the tensors.", DefaultValueFactory = _ => names[0] };
        return option.AcceptOnlyFromAmong(names);
    }

    public static Option<string> Out() => new("--out") { Description = "The directory to write.", Required = true };

    public static Option<int> Rounds { get; } = new("--rounds")
    {
        Description = "How often everything is measured.",
        DefaultValueFactory = _ => 5,
    };

    public static Option<string> Sync { get; } = new Option<string>("--sync")
    {
        Description = "none: nobody waits for the disk; both: copy and merge wait until all is on the disk; each: measure it either way.",
        DefaultValueFactory = _ => "none",
    }.AcceptOnlyFromAmong("none", "both", "each");

    public static Option<bool> Warm { get; } = new("--warm")
    {
        Description = "Before each measurement a copy that does not count: all find memory that was in use just now, "
            + "which a virtual machine need not get from its host first.",
    };

    public static Option<bool> Peft { get; } = new("--peft") { Description = "Measure PEFT's own merge too, if python3 has it." };

    public static Option<string?> Against { get; } = new("--against")
    {
        Description = "The UnslothMerge.psd1 of another build: measure the merges of both builds, and no copy.",
    };

    /// <summary>What every measurement of merges takes.</summary>
    public static IReadOnlyList<Option> Measuring { get; } = [Rounds, Sync, Warm, Peft, Against];

    public static Option<int[]> Ranks(params int[] usual) => new("--ranks")
    {
        Description = "Ranks of adapters to make and merge, such as 16,64,256.",
        DefaultValueFactory = _ => usual,
        CustomParser = ReadRanks,
    };

    public static Option<bool> Sparse() => new("--sparse") { Description = "Headers and file lengths only: zeros that take no space." };

    public static Option<string> Directory() => new("--dir")
    {
        Description = "Where everything is made for the time being.",
        DefaultValueFactory = _ => Path.GetTempPath(),
    };

    /// <summary>Works in a directory that is gone afterwards.</summary>
    public static Task Within(string parent, Action<string> work)
    {
        var directory = Path.GetFullPath(Path.Combine(parent, $"unslothmerge-bench-{Guid.NewGuid().ToString("N")[..8]}"));
        System.IO.Directory.CreateDirectory(directory);
        try
        {
            work(directory);
        }
        finally
        {
            System.IO.Directory.Delete(directory, recursive: true);
        }

        return Task.CompletedTask;
    }

    /// <summary>The dtype of a name that <see cref="DType"/> accepted.</summary>
    public static TensorType TypeOf(string name) => TensorTypes.FromTorchName(name)!.Value;

    private static int[] ReadRanks(ArgumentResult result)
    {
        var parts = result.Tokens.SelectMany(t => t.Value.Split(',')).ToArray();
        var ranks = Array.ConvertAll(parts, p => int.TryParse(p, CultureInfo.InvariantCulture, out var rank) ? rank : 0);
        if (ranks.Any(r => r < 1))
        {
            result.AddError($"'{string.Join(',', parts)}' are not ranks.");
        }

        return ranks;
    }
}
