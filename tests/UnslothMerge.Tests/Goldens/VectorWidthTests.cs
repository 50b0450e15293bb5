using System.Security.Cryptography;

namespace UnslothMerge.Tests.Goldens;

/// <summary>A merge writes the same bytes whatever vectors the processor has.</summary>
public sealed class VectorWidthTests : FileTests
{
    // The file that a child process writes the digests to.
    private const string FileVariable = "UNSLOTHMERGE_TESTS_DIGESTS";

    // Each set switched off takes those that build on it along. The last leaves scalar code.
    [Theory]
    [InlineData("EnableAVX512", 512)]
    [InlineData("EnableAVX2", 256)]
    [InlineData("EnableHWIntrinsic", 128)]
    public void Merges_write_the_same_bytes_without(string instructions, int width)
    {
        var start = new ProcessStartInfo(Environment.ProcessPath!,
            ["--filter-method", $"{typeof(VectorWidthTests)}.{nameof(Digests_are_the_same_when_they_are_taken_again)}"]);
        start.RedirectStandardOutput = true;
        start.Environment[FileVariable] = Temp["digests"];
        start.Environment["DOTNET_" + instructions] = "0";
        using var child = Process.Start(start)!;
        var output = child.StandardOutput.ReadToEnd();
        child.WaitForExit();

        Assert.True(child.ExitCode == 0, output);
        var lines = File.ReadAllLines(Temp["digests"]);
        Assert.True(int.Parse(lines[0], CultureInfo.InvariantCulture) < width);
        Assert.Equal(Digests(), lines[1..]);
    }

    // What the child process runs.
    [Fact]
    public void Digests_are_the_same_when_they_are_taken_again()
    {
        if (Environment.GetEnvironmentVariable(FileVariable) is { } file)
        {
            var width = Vector512.IsHardwareAccelerated ? 512 : Vector256.IsHardwareAccelerated ? 256
                : Vector128.IsHardwareAccelerated ? 128 : 0;
            File.WriteAllLines(file, [$"{width}", .. Digests()]);
        }
        else
        {
            Assert.Equal(Digests(), Digests());
        }
    }

    // One golden of every kind of adapter, a 4-bit base, a merge of several tiles in every dtype, and the eigenvectors that KaSA needs.
    private static List<string> Digests()
    {
        var model = new TinyModel(TinyTensor.Random("m.weight", [300, 517], 1), TinyTensor.Random("n.weight", [64, 33], 2))
            .WithLora(5, "m");
        return
        [
            .. GoldenCase.All.Select(name => new GoldenCase(name)).Where(c => c.Outcome == "merged" && c.Adapters.Count > 0)
                .GroupBy(c => AdapterDirectory.Open(c.Adapters[0].Path).Config.PeftType).Select(g => g.First())
                .Append(new GoldenCase("q-nf4")).Select(c => $"{c.Folder} {Digest((_, output) => GoldenMerge.Save(c, output))}"),
            .. new[] { TensorType.BF16, TensorType.F16, TensorType.F32 }.Select(type =>
                $"{type} {Digest((directory, output) => TinyModel.Save(TinyModel.WritePlan(model.Plan(directory), type), output))}"),
            $"eigenvectors {Eigenvectors()}",
        ];
    }

    // Doubles to the last bit: a merged model is rounded too coarsely to show every difference.
    private static string Eigenvectors()
    {
        var numbers = new Random(1).Numbers(100, 100);
        double[][] matrix = [.. Enumerable.Range(0, 100).Select(i => Enumerable.Range(0, 100)
            .Select(j => numbers[Math.Max(i, j), Math.Min(i, j)]).ToArray())];
        return Convert.ToHexString(SHA256.HashData(
            [.. SmallestEigenvectors.Find(matrix, 3, new ParallelOptions()).SelectMany(v => v).SelectMany(BitConverter.GetBytes)]));
    }

    private static string Digest(Action<TemporaryDirectory, string> save)
    {
        using var directory = new TemporaryDirectory();
        save(directory, directory["out"]);
        return TinyModel.Fingerprint(directory["out"]).Replace('\n', ' ');
    }
}
