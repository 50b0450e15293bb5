namespace UnslothMerge.Bench.Commands;

/// <summary><c>run</c>: makes a model and adapters, measures, prints, and deletes all of it.</summary>
internal static class RunCommand
{
    private const long MaxShardBytes = 5_000_000_000;

    private static readonly string[] Schemes =
        ["fp8", "fp8_block", "int8", "w8a16", "w4a16", "w4a16_asym", "mxfp8", "mxfp4", "mxfp4a16", "nvfp4a16"];

    public static Command Create()
    {
        var (shape, ranks) = (Options.Shape(), Options.Ranks(16, 64, 256));
        var kinds = new Option<bool>("--kinds")
        {
            Description = "With the first rank also DoRA, an NF4 base, and 4-bit and FP8 outputs.",
            DefaultValueFactory = _ => true,
        };
        var exports = new Option<bool>("--exports")
        {
            Description = "With the first rank also each scheme of compressed-tensors.",
        };
        var shared = new Option<string?>("--shared")
        {
            Description = "A directory on a file system that shares blocks (XFS, btrfs): measures a LoRA on q and v there, with the first "
                + "rank, and nothing else.",
        };
        var parent = Options.Directory();

        var command = new Command("run", "Makes a model and adapters, measures merges against cp -r, deletes everything.")
        {
            shape, ranks, kinds, exports, shared, parent,
        };
        Options.Measuring.ToList().ForEach(command.Add);
        command.SetAction((parsed, cancellation) => Options.Within(parsed.GetValue(shared) ?? parsed.GetValue(parent)!, directory =>
        {
            var size = ModelShape.Of(parsed.GetValue(shape)!);
            if (parsed.GetValue(shared) is not null)
            {
                var (first, rounds) = (parsed.GetValue(ranks)![0], parsed.GetValue(Options.Rounds));
                SharedRun.Measure(size, first, MaxShardBytes, directory, rounds, cancellation);
                return;
            }

            var model = Path.Combine(directory, size.Name);
            var bytes = ModelGenerator.Generate(size, model, TensorType.BF16, MaxShardBytes, sparse: false, cancellation);
            string Adapter(int rank, bool dora)
            {
                var adapter = Path.Combine(directory, $"{(dora ? "dora" : "lora")}-r{rank}");
                AdapterGenerator.Generate(size, rank, adapter, TensorType.F32, dora, sparse: false, cancellation);
                return adapter;
            }

            var merges = parsed.GetValue(ranks)!.Select(r => new Merge($"r={r}", model, Adapter(r, dora: false))).ToList();
            if (parsed.GetValue(kinds) && merges is [{ Name: var rank, Adapter: var adapter }, ..])
            {
                merges.Add(new Merge($"{rank}, DoRA", model, Adapter(parsed.GetValue(ranks)![0], dora: true)));
                merges.Add(new Merge($"{rank}, NF4 to 16 bits", Quantized(model, Path.Combine(directory, "nf4")), adapter));
                merges.Add(new Merge($"{rank}, 16 to 4 bits", model, adapter, "-Method merged_4bit"));
                merges.Add(new Merge($"{rank}, 16 bits to FP8", model, adapter, "-Method merged_fp8"));
            }

            if (parsed.GetValue(exports))
            {
                var (first, with) = (merges[0].Name, merges[0].Adapter);
                merges.AddRange(Schemes.Select(m => new Merge($"{first}, {m}", model, with, $"-Method {m}")));
            }

            Console.WriteLine(
                $"Llama {size.Name}, {ByteSize.Text(bytes)} of BF16; LoRA on all linear layers, F32; "
                + $"{Environment.ProcessorCount} processors; {parsed.GetValue(Options.Rounds)} rounds\n");
            CompareCommand.Compare(model, merges, directory, parsed, cancellation);
        }));
        return command;
    }

    private static string Quantized(string model, string output)
    {
        PowerShellProcess.Run($"""
            $null = Merge-LoraModel {PowerShellProcess.Quote(model)} |
                Save-MergedModel {PowerShellProcess.Quote(output)} -Method merged_4bit -NoSync -WarningAction SilentlyContinue
            [Console]::WriteLine("{PowerShellProcess.Mark}")
            """);
        return output;
    }
}
