using UnslothMerge.Bench.Generating;

namespace UnslothMerge.Gpu;

/// <summary>Measures merges on the GPU and on the CPU against <c>cp -r</c>, in interleaved rounds, until its time is over.</summary>
internal static class Table
{
    /// <summary>The most that it may take.</summary>
    public const int Seconds = 170;

    // Left for the round at hand to end and for the table.
    private const int Reserve = 50;

    /// <summary>Makes the models, measures and prints.</summary>
    public static void Measure(Settings settings)
    {
        var clock = Stopwatch.StartNew();
        using var directory = new TemporaryDirectory(settings.Directory);
        var rows = Rows(ModelShape.Of(settings.Shape), directory).ToList();
        var copies = new List<double>();
        Console.WriteLine($"{rows.Count} merges made in {clock.Elapsed.TotalSeconds:F1} s");
        for (var round = 0; round <= settings.Rounds && clock.Elapsed.TotalSeconds < Seconds - Reserve; round++)
        {
            // The first round warms up, and shows that the results are right.
            copies.Add(Copy(rows[0].Model, directory["cp"]));
            rows.ForEach(r => r.Measure(settings.Device, directory, check: round == 0));
            Console.WriteLine($"round {round} done after {clock.Elapsed.TotalSeconds:F1} s");
        }

        Print(rows, copies);
    }

    private static IEnumerable<TableRow> Rows(ModelShape shape, TemporaryDirectory directory)
    {
        var (model, nf4, all) = (directory["bf16"], directory["nf4"], Environment.ProcessorCount);
        var bytes = ModelGenerator.Generate(shape, model, TensorType.BF16, 5_000_000_000, sparse: false, CancellationToken.None);
        Console.WriteLine($"Llama {shape.Name}, {ByteSize.Text(bytes)} of BF16, adapters of F32 on all linear layers, in {directory.Path}");
        TinyModel.Save(TinyModel.WritePlan(TinyModel.Plan(model), quantization: new FourBitRequest(null, null, null, null)), nf4, all);
        string Adapter(int rank, bool dora = false)
        {
            var adapter = directory[$"{(dora ? "dora" : "lora")}-{rank}"];
            AdapterGenerator.Generate(shape, rank, adapter, TensorType.F32, dora, sparse: false, CancellationToken.None);
            return adapter;
        }

        var (r16, r256) = (Adapter(16), Adapter(256));
        yield return new("rank 16", model, r16, all);
        yield return new("rank 64", model, Adapter(64), all);
        yield return new("rank 256", model, r256, all);
        yield return new("rank 16, DoRA", model, Adapter(16, dora: true), all);
        yield return new("rank 16, NF4 base", nf4, r16, all);
        yield return new("rank 256, NF4 base", nf4, r256, all);

        // Where a GPU pays: few threads, large ranks.
        yield return new("rank 256, 2 threads", model, r256, 2);
        yield return new("rank 512, 2 threads", model, Adapter(512), 2);
    }

    private static double Copy(string from, string to)
    {
        var clock = Stopwatch.StartNew();
        using (var process = Process.Start("cp", ["-r", from, to]))
        {
            process.WaitForExit();
        }

        var seconds = clock.Elapsed.TotalSeconds;
        Directory.Delete(to, recursive: true);
        return seconds;
    }

    private static void Print(List<TableRow> rows, List<double> copies)
    {
        var copy = Median(copies);
        Console.WriteLine($"\nmedians of the rounds after the first; cp -r of the bfloat16 base {copy:F2} s");
        Console.WriteLine("| merge | GPU s | CPU s | GPU / CPU | GPU / cp -r | CPU / cp -r |\n|---|---:|---:|---:|---:|---:|");
        foreach (var row in rows)
        {
            var (gpu, cpu) = (Median(row.OnDevice), Median(row.OnCpu));
            Console.WriteLine($"| {row.Name} | {gpu:F2} | {cpu:F2} | {gpu / cpu:F2} | {gpu / copy:F2} | {cpu / copy:F2} |");
        }

        Console.WriteLine($"\nall rounds, the first of them to warm up:\ncp -r: {Text(copies)}");
        rows.ForEach(r => Console.WriteLine($"{r.Name}: GPU {Text(r.OnDevice)}; CPU {Text(r.OnCpu)}"));
    }

    private static string Text(List<double> rounds) => string.Join(' ', rounds.Select(s => s.ToString("F2", CultureInfo.InvariantCulture)));

    // Without the first round, unless there is no other.
    private static double Median(List<double> rounds)
    {
        var sorted = rounds.Skip(rounds.Count > 1 ? 1 : 0).Order().ToArray();
        return (sorted[(sorted.Length - 1) / 2] + sorted[sorted.Length / 2]) / 2;
    }
}
