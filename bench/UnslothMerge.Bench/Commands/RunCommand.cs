using System.CommandLine;
using UnslothMerge.Bench.Generating;
using UnslothMerge.Safetensors;

namespace UnslothMerge.Bench.Commands;

/// <summary><c>run</c>: makes a model and adapters, measures, prints, and deletes all of it.</summary>
internal static class RunCommand
{
    private const long MaxShardBytes = 5_000_000_000;

    public static Command Create()
    {
        var (shape, ranks, rounds, sync, peft) = (Options.Shape(), Options.Ranks(16, 256), Options.Rounds(), Options.Sync(), Options.Peft());
        var parent = Options.Directory();

        var command = new Command("run", "Makes a model and adapters, measures merges against cp -r, deletes everything.") { shape, ranks, rounds, sync, peft, parent };
        command.SetAction((parsed, cancellation) => Options.Within(parsed.GetValue(parent)!, directory =>
        {
            var size = ModelShape.Of(parsed.GetValue(shape)!);
            var model = Path.Combine(directory, size.Name);
            var bytes = ModelGenerator.Generate(size, model, TensorType.BF16, MaxShardBytes, sparse: false, cancellation);
            var adapters = new List<(string Name, string Path)>();
            foreach (var rank in parsed.GetValue(ranks)!)
            {
                adapters.Add(($"r={rank}", Path.Combine(directory, $"lora-r{rank}")));
                AdapterGenerator.Generate(size, rank, adapters[^1].Path, TensorType.F32, dora: false, sparse: false, cancellation);
            }

            Console.WriteLine($"Llama {size.Name}, {ByteSize.Text(bytes)} of BF16; LoRA on all linear layers, F32; {Environment.ProcessorCount} processors; {parsed.GetValue(rounds)} rounds\n");
            CompareCommand.Compare(model, adapters, parsed.GetValue(rounds), directory, parsed.GetValue(sync)!, parsed.GetValue(peft), cancellation);
        }));
        return command;
    }
}
