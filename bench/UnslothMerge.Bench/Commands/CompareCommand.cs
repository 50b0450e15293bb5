using System.CommandLine;
using UnslothMerge.Bench.Generating;
using UnslothMerge.Bench.Measuring;
using UnslothMerge.Models;

namespace UnslothMerge.Bench.Commands;

/// <summary><c>compare</c>: merges a model with adapters, against copying it.</summary>
internal static class CompareCommand
{
    public static Command Create()
    {
        var model = new Option<string>("--model") { Description = "The base model.", Required = true };
        var adapters = new Option<string[]>("--adapter") { Description = "An adapter; may be given several times.", DefaultValueFactory = _ => [] };
        var directory = new Option<string?>("--out") { Description = "Where outputs go for the time being; beside the model by default." };
        var (ranks, rounds, sync, warm, peft) = (Options.Ranks(), Options.Rounds(), Options.Sync(), Options.Warm(), Options.Peft());

        var command = new Command("compare", "Measures merges of a model against cp -r of it.") { model, adapters, ranks, rounds, directory, sync, warm, peft };
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
                    AdapterGenerator.Generate(ShapeOf(@base), rank, made[^1], Safetensors.TensorType.F32, dora: false, sparse: false, cancellation);
                }

                var named = parsed.GetValue(adapters)!.Select(a => new Merge(Path.GetFileName(Path.TrimEndingDirectorySeparator(a)), @base, Path.GetFullPath(a)))
                    .Concat(parsed.GetValue(ranks)!.Zip(made, (rank, path) => new Merge($"r={rank}", @base, path)));
                Directory.CreateDirectory(outputs);
                Compare(@base, [.. named], parsed.GetValue(rounds), outputs, parsed.GetValue(sync)!, parsed.GetValue(warm), parsed.GetValue(peft), cancellation);
            }
            finally
            {
                made.Where(Directory.Exists).ToList().ForEach(d => Directory.Delete(d, recursive: true));
            }

            return Task.CompletedTask;
        });
        return command;
    }

    /// <summary>Measures and prints.</summary>
    /// <param name="model">What is copied.</param>
    /// <param name="merges">What is merged; PEFT only takes part where that is the same model, and with no options.</param>
    /// <param name="rounds">The number of rounds.</param>
    /// <param name="outputs">Where outputs go.</param>
    /// <param name="sync">none, both or each.</param>
    /// <param name="warm">True to make a copy before each measurement.</param>
    /// <param name="peft">True to measure PEFT as well.</param>
    /// <param name="cancellation">Stops after the run at hand.</param>
    public static void Compare(string model, IReadOnlyList<Merge> merges, int rounds, string outputs, string sync, bool warm, bool peft, CancellationToken cancellation)
    {
        var withPeft = peft && PeftContender.IsInstalled;
        var contenders = new List<Contender>();
        foreach (var synced in sync == "each" ? new[] { false, true } : [sync == "both"])
        {
            contenders.Add(new CopyContender(model, synced));
            contenders.AddRange(merges.Select(m => new MergeContender(m, synced)));
            contenders.AddRange(merges.Where(m => withPeft && m.Base == model && m.Options.Length == 0).Select(m => new PeftContender(m, synced)));
        }

        if (peft && !withPeft)
        {
            Console.WriteLine("PEFT: not found.\n");
        }

        ResultTable.Print(contenders, Comparison.Run(contenders, rounds, warm ? new CopyContender(model, Sync: false) : null, outputs, cancellation));
    }

    // The shapes differ in their hidden size.
    private static ModelShape ShapeOf(string model)
    {
        var hidden = JsonFile.Read(Path.Combine(model, "config.json"), MergeError.InvalidModel).Number("hidden_size");
        return ModelShape.Known.FirstOrDefault(s => s.Hidden == hidden)
            ?? throw new InvalidOperationException($"'{model}' is none of the shapes {string.Join(", ", ModelShape.Known.Select(s => s.Name))}: give it an --adapter.");
    }
}
