namespace UnslothMerge.Tests.Fuzzing;

/// <summary>Damaged files of other people end in a merge or in an error that a user can act on: never in another exception, and never in a
/// wait without end. By hand: <c>UNSLOTHMERGE_FUZZ=10000</c> damages so many files of each kind; <c>UNSLOTHMERGE_FUZZ=123:1</c> repeats the
/// one of the seed 123.</summary>
public sealed class FuzzTests : FileTests
{
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(5);

    private static readonly (int First, int Count) Seeds = ReadSeeds(Environment.GetEnvironmentVariable("UNSLOTHMERGE_FUZZ") ?? "0:40");

    public static TheoryData<string> Kinds => [.. FuzzKind.All.Select(k => k.Name)];

    [Theory, MemberData(nameof(Kinds))]
    public void A_damaged_file_is_read_or_refused(string name)
    {
        var kind = FuzzKind.All.Single(k => k.Name == name);
        var cases = GoldenCase.All.Select(n => new GoldenCase(n)).Where(kind.Cases).ToList();
        var subjects = new FuzzSubject?[cases.Count];
        var failures = new List<string>();
        for (var seed = Seeds.First; seed < Seeds.First + Seeds.Count; seed++)
        {
            var random = new Random(seed);
            var at = random.Next(cases.Count);
            var subject = subjects[at] ??= FuzzSubject.Of(cases[at], Temp[$"{at}"], kind);
            var file = random.Of(subject.Files);
            if (Failure(subject, file, random) is { } failure)
            {
                failures.Add($"seed {seed}, {Path.GetRelativePath(Temp.Path, file)} of {Path.GetFileName(cases[at].Folder)}: {failure}");
            }
        }

        Assert.True(failures.Count == 0, string.Join('\n', failures));
    }

    private string? Failure(FuzzSubject subject, string file, Random random)
    {
        var whole = File.ReadAllBytes(file);
        var (clock, bytes) = (Stopwatch.StartNew(), GC.GetAllocatedBytesForCurrentThread());
        try
        {
            File.WriteAllBytes(file, Mutations.Apply(file, whole, random));
            subject.Run(random);
        }
        catch (MergeException)
        {
            // What a user can act on.
        }
#pragma warning disable CA1031 // what else is thrown is what is looked for
        catch (Exception e)
#pragma warning restore CA1031
        {
            return e.ToString();
        }
        finally
        {
            File.WriteAllBytes(file, whole);
        }

        bytes = GC.GetAllocatedBytesForCurrentThread() - bytes;
        return clock.Elapsed > Limit ? $"it took {clock.Elapsed}" : bytes > 1 << 30 ? $"it took {bytes} bytes" : null;
    }

    /// <summary>Reads <c>10000</c>, for seeds from any one on, or <c>123:1</c>.</summary>
    internal static (int First, int Count) ReadSeeds(string text) =>
        text.Split(':') is [var first, var count] ? (Number(first), Number(count)) : (Environment.TickCount & 0xFFFFFF, Number(text));

    private static int Number(string text) => int.Parse(text, CultureInfo.InvariantCulture);
}
