namespace UnslothMerge.Bench.Commands;

/// <summary><c>compare</c>: merges a model with adapters, against copying it.</summary>
internal static class CompareCommand
{
    public static Command Create()
    {
        var model = new Option<string>("--model") { Description = "The base model.", Required = true };
        var adapters = new Option<string[]>("--adapter") { Description = "Adapters to merge.", DefaultValueFactory = _ => [] };
        var directory = new Option<string?>("--out") { Description = "Where outputs go for the time being; beside the model by default." };
        var ranks = Options.Ranks();

        var command = new Command("compare", "Measures merges of a model against cp -r of it.") { model, adapters, ranks, directory };
        Options.Measuring.ToList().ForEach(command.Add);
        command.SetAction((parsed, cancellation) =>
        {
            var @base = Path.TrimEndingDirectorySeparator(Path.GetFullPath(parsed.GetValue(model)!));
            var outputs = parsed.GetValue(directory) ?? Path.GetDirectoryName(@base)!;
            var made = new List<string>();
            try
            {
                foreach (var rank in parsed.GetValue(ranks)!)
                {
                    // Beside the model: inside it they would be copied with it.
                    made.Add($"{@base}-lora-r{rank}-{Guid.NewGuid().ToString("N")[..8]}");
                    AdapterGenerator.Generate(ShapeOf(@base), rank, made[^1], TensorType.F32, dora: false, sparse: false, cancellation);
                }

                var named = parsed.GetValue(adapters)!.Select(a => Path.TrimEndingDirectorySeparator(Path.GetFullPath(a)))
                    .Select(a => new Merge(Path.GetFileName(a), @base, a))
                    .Concat(parsed.GetValue(ranks)!.Zip(made, (rank, path) => new Merge($"r={rank}", @base, path)));
                Directory.CreateDirectory(outputs);
                Compare(@base, [.. named], outputs, parsed, cancellation);
            }
            finally
            {
                made.Where(Directory.Exists).ToList().ForEach(d => Directory.Delete(d, recursive: true));
            }

            return Task.CompletedTask;
        });
        return command;
    }

    /// <summary>Measures and prints. PEFT only takes part in merges of the model that is copied, and with no options.</summary>
    public static void Compare(
        string model, IReadOnlyList<Merge> merges, string outputs, ParseResult parsed, CancellationToken cancellation)
    {
        var (rounds, sync, peft) = (parsed.GetValue(Options.Rounds), parsed.GetValue(Options.Sync), parsed.GetValue(Options.Peft));
        var other = parsed.GetValue(Options.Against) is { } path ? Path.GetFullPath(path) : null;
        if (peft && !PeftContender.IsInstalled)
        {
            throw new InvalidOperationException("python3 does not have PEFT.");
        }

        var contenders = new List<Contender>();
        foreach (var synced in sync == "each" ? new[] { false, true } : [sync == "both"])
        {
            if (other is not null)
            {
                contenders.AddRange(merges.SelectMany(m => new[] { new MergeContender(m, synced), new MergeContender(m, synced, other) }));
                continue;
            }

            contenders.Add(new CopyContender(model, synced));
            contenders.AddRange(merges.Select(m => new MergeContender(m, synced)));
            var peers = merges.Where(m => peft && m.Base == model && m.Options.Length == 0);
            contenders.AddRange(peers.Select(m => new PeftContender(m, synced)));
        }

        var before = parsed.GetValue(Options.Warm) ? new CopyContender(model, Sync: false) : null;
        var results = Comparison.Run(contenders, rounds, before, outputs, cancellation);
        if (other is null)
        {
            ResultTable.Print(contenders, results);
        }
        else
        {
            ResultTable.PrintPairs(contenders, results);
        }
    }

    // The shapes differ in their hidden size.
    private static ModelShape ShapeOf(string model)
    {
        var hidden = JsonFile.Read(Path.Combine(model, "config.json"), MergeError.InvalidModel).Number("hidden_size");
        return ModelShape.Known.FirstOrDefault(s => s.Hidden == hidden)
            ?? throw new InvalidOperationException(
                $"'{model}' is none of the shapes {string.Join(", ", ModelShape.Known.Select(s => s.Name))}: give it an --adapter.");
    }
}
