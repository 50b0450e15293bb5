namespace UnslothMerge.Bench.Commands;

/// <summary>Measures a LoRA on two modules where the file system shares blocks: seconds against a copy that shares none, and the bytes that
/// the disk takes.</summary>
internal static class SharedRun
{
    private static readonly string[] Modules = ["q_proj", "v_proj"];
    private static readonly bool[] Syncs = [false, true];

    /// <summary>Makes a model and an adapter in a directory, measures and prints.</summary>
    public static void Measure(ModelShape shape, int rank, long maxShardBytes, string directory, int rounds, CancellationToken cancellation)
    {
        var (model, adapter) = (Path.Combine(directory, shape.Name), Path.Combine(directory, "lora-qv"));
        var bytes = ModelGenerator.Generate(shape, model, TensorType.BF16, maxShardBytes, sparse: false, cancellation);
        AdapterGenerator.Generate(shape, rank, adapter, TensorType.F32, dora: false, sparse: false, cancellation, Modules);
        var changed = shape.Layers * shape.Linears.Where(l => Modules.Contains(l.Module.Split('.')[1])).Sum(l => 2L * l.Out * l.In);
        Console.WriteLine(
            $"Llama {shape.Name}, {ByteSize.Text(bytes)} of BF16; LoRA of rank {rank} on {string.Join(" and ", Modules)}, which changes "
            + $"{ByteSize.Text(changed)}; {Environment.ProcessorCount} processors; {rounds} rounds\n");

        var merge = new Merge($"r={rank}, -MaxShardSize base", model, adapter, "-MaxShardSize base");
        Contender[] contenders = [.. Syncs.SelectMany(synced => new Contender[]
        {
            new CopyContender(model, synced) { Name = "cp -r --reflink=never", Options = ["--reflink=never"] },
            new MergeContender(merge, synced),
        })];
        ResultTable.Print(contenders, Comparison.Run(contenders, rounds, null, directory, cancellation));

        var (output, before) = (Path.Combine(directory, "out"), Used(directory));
        contenders[1].Run(output);
        var taken = Used(directory) - before;
        Console.WriteLine($"\nThe disk took {ByteSize.Text(taken)}, {ResultTable.Text((double)taken / changed)} of what changes.");
    }

    private static long Used(string directory)
    {
        ChildProcess.Run("sync", "-f", directory);
        var drive = new DriveInfo(directory);
        return drive.TotalSize - drive.TotalFreeSpace;
    }
}
