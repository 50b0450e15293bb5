using System.Diagnostics;
using UnslothMerge.Bench.Generating;
using UnslothMerge.Devices;
using UnslothMerge.Planning;
using UnslothMerge.Safetensors;
using UnslothMerge.Tests;

namespace UnslothMerge.Gpu.Steps;

/// <summary>Measures six merges on the GPU and on the cores against <c>cp -r</c>, in interleaved rounds, until its time is over.</summary>
internal sealed class TableStep() : Step("table", 210)
{
    // Left for the round at hand to end and for the table.
    private const int Reserve = 50;

    private readonly Stopwatch _clock = Stopwatch.StartNew();

    protected override void Do(Settings settings)
    {
        var directory = Directory.CreateDirectory(Path.Combine(settings.Directory, $"unslothmerge-gpu-{Guid.NewGuid():N}")).FullName;
        try
        {
            var rows = Rows(ModelShape.Of(settings.Shape), directory).ToList();
            var copies = new List<double>();
            Say($"{rows.Count} merges made in {_clock.Elapsed.TotalSeconds:F1} s");
            for (var round = 0; round <= settings.Rounds && _clock.Elapsed.TotalSeconds < Seconds - Reserve; round++)
            {
                // The first round warms up, and shows that the results are right.
                copies.Add(Copy(rows[0].Base, Path.Combine(directory, "cp")));
                rows.ForEach(r => r.Measure(settings.Device, directory, check: round == 0, Say));
                Say($"round {round} done after {_clock.Elapsed.TotalSeconds:F1} s");
            }

            Print(rows, copies);
        }
        finally
        {
            Directory.Delete(directory, recursive: true);
        }
    }

    private static IEnumerable<TableRow> Rows(ModelShape shape, string directory)
    {
        var model = Path.Combine(directory, "bf16");
        var bytes = ModelGenerator.Generate(shape, model, TensorType.BF16, 5_000_000_000, sparse: false, CancellationToken.None);
        Say($"Llama {shape.Name}, {ByteSize.Text(bytes)} of BF16, adapters of F32 on all linear layers, in {directory}");
        string Adapter(int rank, bool dora)
        {
            var adapter = Path.Combine(directory, $"{(dora ? "dora" : "lora")}-{rank}");
            AdapterGenerator.Generate(shape, rank, adapter, TensorType.F32, dora, sparse: false, CancellationToken.None);
            return adapter;
        }

        var (r16, r64, r256) = (Adapter(16, false), Adapter(64, false), Adapter(256, false));
        var nf4 = Path.Combine(directory, "nf4");
        DeviceSaves.Save(DeviceSaves.Plan(model, null, new FourBitRequest(null, null, null, null)), nf4, null, Environment.ProcessorCount);
        yield return new TableRow("rank 16", model, r16);
        yield return new TableRow("rank 64", model, r64);
        yield return new TableRow("rank 256", model, r256);
        yield return new TableRow("rank 16, DoRA", model, Adapter(16, true));
        yield return new TableRow("rank 16, NF4 base", nf4, r16);
        yield return new TableRow("rank 256, NF4 base", nf4, r256);
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
        Say($"\nmedians of {rows[0].Rounds} rounds; cp -r of the bfloat16 base {Median(copies):F2} s");
        Say("| merge | GPU s | CPU s | GPU / CPU | GPU / cp -r | CPU / cp -r |");
        Say("|---|---:|---:|---:|---:|---:|");
        foreach (var row in rows)
        {
            var (gpu, cpu, copy) = (Median(row.Device), Median(row.Cores), Median(copies));
            Say($"| {row.Name} | {gpu:F2} | {cpu:F2} | {gpu / cpu:F2} | {gpu / copy:F2} | {cpu / copy:F2} |");
        }

        Say($"\nall rounds, the first of them to warm up:\ncp -r: {string.Join(' ', copies.Select(Text))}");
        rows.ForEach(r => Say($"{r.Name}: GPU {string.Join(' ', r.Device.Select(Text))}; CPU {string.Join(' ', r.Cores.Select(Text))}"));
    }

    private static string Text(double seconds) => FormattableString.Invariant($"{seconds:F2}");

    // Without the first round, unless there is no other.
    private static double Median(List<double> rounds)
    {
        var sorted = rounds.Skip(rounds.Count > 1 ? 1 : 0).Order().ToArray();
        return (sorted[(sorted.Length - 1) / 2] + sorted[sorted.Length / 2]) / 2;
    }
}
