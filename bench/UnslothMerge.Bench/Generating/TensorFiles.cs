namespace UnslothMerge.Bench.Generating;

/// <summary>Writes safetensors files full of random numbers.</summary>
internal static class TensorFiles
{
    private static readonly Dictionary<string, string> Metadata = new() { ["format"] = "pt" };

    /// <summary>Writes one file, with a hole for the data if there is no block, and gives its length.</summary>
    public static long Write(string path, IEnumerable<TensorSpec> tensors, RandomBlock? block, CancellationToken cancellation)
    {
        var layout = new ShardLayout(tensors, Metadata);
        using var file = File.OpenHandle(path, FileMode.Create, FileAccess.Write);
        RandomAccess.Write(file, layout.Header.ToArray(), 0);
        for (var offset = (long)layout.Header.Length; block is not null && offset < layout.Length;)
        {
            cancellation.ThrowIfCancellationRequested();
            var bytes = block.Take(layout.Length - offset);
            RandomAccess.Write(file, bytes.Span, offset);
            offset += bytes.Length;
        }

        RandomAccess.SetLength(file, layout.Length);
        return layout.Length;
    }
}
