using System.Security.Cryptography;

namespace UnslothMerge.Tests.Goldens;

/// <summary>A merge writes the same bytes whatever vectors the processor has.</summary>
public sealed class VectorWidthTests
{
    // The file that a child process writes the digests to.
    private const string FileVariable = "UNSLOTHMERGE_TESTS_DIGESTS";

    public static TheoryData<string> Switches => ["DOTNET_EnableAVX512", "DOTNET_EnableAVX2", "DOTNET_EnableHWIntrinsic"];

    [Theory]
    [MemberData(nameof(Switches))]
    public void Merges_write_the_same_bytes_without(string instructions)
    {
        using var directory = new TemporaryDirectory();
        var expected = Digests();
        var start = new ProcessStartInfo(Environment.ProcessPath!,
            ["--filter-method", $"{typeof(VectorWidthTests)}.{nameof(Digests_are_the_same_when_they_are_taken_again)}"]);
        start.RedirectStandardOutput = true;
        start.Environment[FileVariable] = directory["digests"];
        start.Environment[instructions] = "0";
        using var child = Process.Start(start)!;
        var output = child.StandardOutput.ReadToEnd();
        child.WaitForExit();

        Assert.True(child.ExitCode == 0, output);
        Assert.Equal(expected, File.ReadAllLines(directory["digests"]));
    }

    // What the child process runs.
    [Fact]
    public void Digests_are_the_same_when_they_are_taken_again()
    {
        var digests = Digests();
        Assert.Equal(digests, Digests());
        if (Environment.GetEnvironmentVariable(FileVariable) is { } file)
        {
            File.WriteAllLines(file, digests);
        }
    }

    // One golden of every kind of adapter, and the eigenvectors that KaSA needs.
    private static IReadOnlyList<string> Digests() =>
    [
        .. GoldenCase.All.Select(name => new GoldenCase(name)).Where(c => c.Outcome == "merged" && c.Adapters.Count > 0)
            .GroupBy(c => AdapterDirectory.Open(c.Adapters[0].Path).Config.PeftType).Select(g => $"{g.Key} {Digest(g.First())}"),
        $"eigenvectors {Eigenvectors()}",
    ];

    // Doubles to the last bit: a merged model is rounded too coarsely to show every difference.
    private static string Eigenvectors()
    {
        var random = new Random(1);
        var matrix = new double[100][];
        for (var i = 0; i < matrix.Length; i++)
        {
            matrix[i] = new double[matrix.Length];
            for (var j = 0; j <= i; j++)
            {
                matrix[i][j] = matrix[j][i] = random.NextDouble();
            }
        }

        return Convert.ToHexString(SHA256.HashData(
            [.. SmallestEigenvectors.Find(matrix, 3, new ParallelOptions()).SelectMany(v => v).SelectMany(BitConverter.GetBytes)]));
    }

    private static string Digest(GoldenCase @case)
    {
        using var directory = new TemporaryDirectory();
        GoldenMerge.Save(@case, directory["out"]);
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        foreach (var file in Directory.EnumerateFiles(directory["out"], "*.safetensors").Order(StringComparer.Ordinal))
        {
            hash.AppendData(File.ReadAllBytes(file));
        }

        return Convert.ToHexString(hash.GetHashAndReset());
    }
}
