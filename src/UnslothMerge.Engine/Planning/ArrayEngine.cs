namespace UnslothMerge.Planning;

/// <summary>An engine that runs a script many times, and the variables by which it tells each run which one it is. An engine that does not
/// tell its first index counts from 0.</summary>
internal sealed record ArrayEngine(string Name, string Index)
{
    private static readonly ArrayEngine[] Known =
    [
        new("Slurm", "SLURM_ARRAY_TASK_ID")
        {
            First = "SLURM_ARRAY_TASK_MIN", Last = "SLURM_ARRAY_TASK_MAX", Step = "SLURM_ARRAY_TASK_STEP",
            Count = "SLURM_ARRAY_TASK_COUNT",
        },
        new("Kubernetes", "JOB_COMPLETION_INDEX") { Count = "JOB_COMPLETIONS" },
        new("AWS Batch", "AWS_BATCH_JOB_ARRAY_INDEX") { Count = "AWS_BATCH_JOB_ARRAY_SIZE" },
        new("PBS", "PBS_ARRAY_INDEX"),
    ];

    private string? First { get; init; }

    private string? Last { get; init; }

    private string? Step { get; init; }

    private string? Count { get; init; }

    /// <summary>The part of this run; of so many, if the user says so.</summary>
    public static Part PartOf(int? given, Func<string, string?> variable)
    {
        var engines = Array.FindAll(Known, e => !string.IsNullOrEmpty(variable(e.Index)));
        return engines switch
        {
            [var engine] => engine.Read(given, variable),
            [] => throw Part.Refused("This process is no run of an array: there is no engine whose variables say which part it is.",
                $"Write the part as 3/16. env reads {string.Join(", ", Known.Select(e => $"{e.Index} ({e.Name})"))}."),
            _ => throw Part.Refused($"Both {engines[0].Name} and {engines[1].Name} say which run this is.", "Write the part as 3/16."),
        };
    }

    private Part Read(int? given, Func<string, string?> variable)
    {
        var index = Value(Index)!.Value;
        var (first, step) = (Value(First) ?? 0, Value(Step) is > 0 and var s ? s : 1);
        var range = Value(Last) is { } last ? ((last - first) / step) + 1 : (int?)null;
        var told = range ?? Value(Count);
        if (range is not null && Value(Count) is { } runs && runs != range)
        {
            throw Part.Refused($"The array of {Name} has gaps: {runs} of {range} runs.", "Write the part as 3/16.");
        }

        if (given is not null && told is not null && given != told)
        {
            throw Part.Refused($"{Name} says that there are {told} runs, but the part says {given}.", "Write env, or the part as 3/16.");
        }

        var count = given ?? told ?? throw Part.Refused($"{Name} does not say how many runs there are.",
            Count is null ? "Write env/16." : $"Write env/16, or set {Count}.");
        var number = ((index - first) / step) + 1;
        return number >= 1 && number <= count && (index - first) % step == 0 ? new Part(number, count)
            : throw Part.Refused($"{Index} is {index}, which is none of {count} runs from {first}.",
                $"Let the array of {Name} begin at {first}, or write the part as 3/16.");

        int? Value(string? name) => name is null || variable(name) is not { Length: > 0 } text ? null
            : int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var value) ? value
            : throw Part.Refused($"{name} is '{text}', which is no number.", "Write the part as 3/16.");
    }
}
