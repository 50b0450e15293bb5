namespace UnslothMerge.Tests.Fuzzing;

/// <summary>A model and its adapters whose files are damaged one at a time.</summary>
internal sealed class FuzzSubject(string directory, IReadOnlyList<(string Path, double Weight)> adapters, IReadOnlyList<string> files)
{
    /// <summary>The files of a kind.</summary>
    public IReadOnlyList<string> Files => files;

    /// <summary>Copies a golden case, adds files to its base, and finds those of the kind by their paths.</summary>
    public static FuzzSubject Of(GoldenCase @case, string directory, FuzzKind kind)
    {
        Copy(@case.Base, Path.Combine(directory, "base"));
        var adapters = @case.Adapters.Select((a, i) => (Copy(a.Path, Path.Combine(directory, $"adapter{i}")), a.Weight)).ToList();
        kind.Add?.Invoke(Path.Combine(directory, "base"));
        return new FuzzSubject(directory, adapters,
            [.. Directory.EnumerateFiles(directory, "*", SearchOption.AllDirectories).Where(f => kind.Files.IsMatch(f)).Order()]);
    }

    /// <summary>Does all that a user can do with the model: looks at it, plans, saves by some method, and tests what was saved.</summary>
    public void Run(Random random)
    {
        var model = ModelDirectory.Open(Path.Combine(directory, "base"));
        var plan = MergePlanner.Plan(model, adapters.Select(a => new AdapterStep(AdapterDirectory.Open(a.Path), a.Weight)));
        var output = Path.Combine(directory, "out");
        try
        {
            Save(plan, output, random.Next(8));
            ModelVerifier.Verify(plan, plan.Tensors, output, new VerificationOptions(false, 2), null, CancellationToken.None);
        }
        finally
        {
            foreach (var left in Directory.EnumerateDirectories(directory, "*out*"))
            {
                Directory.Delete(left, recursive: true);
            }
        }
    }

    private static void Save(MergePlan plan, string output, int method)
    {
        if (method == 0)
        {
            TinyModel.SaveAdapter(plan, output);
            return;
        }

        OutputRequest? request = method switch
        {
            1 or 2 => new BaseFormatRequest(),
            3 => new FourBitRequest(null, null, null, null),
            4 => new Fp8Request(Fp8Strategy.Block),
            _ => null,
        };
        TinyModel.Save(TinyModel.WritePlan(plan, quantization: request), output);
    }

    private static string Copy(string from, string to)
    {
        foreach (var file in Directory.EnumerateFiles(from, "*", SearchOption.AllDirectories))
        {
            var target = Path.Combine(to, Path.GetRelativePath(from, file));
            Directory.CreateDirectory(Path.GetDirectoryName(target)!);
            File.Copy(file, target);
        }

        return to;
    }
}
