namespace UnslothMerge.Safetensors;

/// <summary>A tensor to be written.</summary>
internal sealed record TensorSpec(string Name, TensorType Type, IReadOnlyList<long> Shape)
{
    /// <summary>The length of its data in bytes.</summary>
    public long Bytes => checked(Shape.Count() * Type.Bits()) / 8;
}

/// <summary>A tensor of at most so many bytes (U8), whose length depends on the data.</summary>
internal sealed record DeferredSpec(string Name, int MaxBytes);

/// <summary>The layout of one safetensors file to be written: the header's bytes, and where each tensor's data will lie. Tensors are
/// ordered as the reference writer orders them, by dtype (descending) and then by name; the header is compact JSON, <c>__metadata__</c>
/// first, padded with spaces to a multiple of 8. Source: huggingface/safetensors 0.8, <c>prepare</c>. Tensors whose length depends on the
/// data come last: the header has room for them, and <see cref="Complete"/> fills it in.</summary>
internal sealed class ShardLayout
{
    private readonly NameIndex _names;
    private readonly long[] _offsets;
    private readonly IReadOnlyList<DeferredSpec> _deferred;
    private readonly IReadOnlyDictionary<string, string> _metadata;

    public ShardLayout(
        IEnumerable<TensorSpec> tensors, IReadOnlyDictionary<string, string> metadata, IReadOnlyList<DeferredSpec>? deferred = null)
    {
        _metadata = metadata;
        _deferred = [.. (deferred ?? []).OrderBy(d => d.Name, StringComparer.Ordinal)];
        Tensors = [.. tensors.OrderByDescending(t => t.Type).ThenBy(t => t.Name, StringComparer.Ordinal)];
        Header = new ShardHeader(Tensors.Concat(_deferred.Select(d => Bytes(d.Name, d.MaxBytes))), metadata, 0);
        _offsets = new long[Tensors.Count];
        FixedLength = Header.Length;
        for (var i = 0; i < _offsets.Length; i++)
        {
            _offsets[i] = FixedLength;
            FixedLength += Tensors[i].Bytes;
        }

        _names = Index();
    }

    private ShardLayout(byte[] header, IReadOnlyList<StoredTensor> stored)
    {
        (_metadata, _deferred, Header) = (new Dictionary<string, string>(), [], new ShardHeader(header));
        var ordered = stored.OrderBy(t => t.Offset).ToList();
        Tensors = [.. ordered.Select(t => new TensorSpec(t.Name, t.Type, t.Shape))];
        _offsets = [.. ordered.Select(t => t.Offset)];
        _names = Index();
        FixedLength = stored.Max(t => t.Offset + t.Length);
    }

    /// <summary>The tensors in the order of their data.</summary>
    public IReadOnlyList<TensorSpec> Tensors { get; }

    /// <summary>The names of all tensors, deferred ones included.</summary>
    public IEnumerable<string> Names => Tensors.Select(t => t.Name).Concat(_deferred.Select(d => d.Name));

    public ShardHeader Header { get; }

    /// <summary>The length of the file in bytes without deferred tensors.</summary>
    public long FixedLength { get; }

    /// <summary>The length of the file in bytes; with deferred tensors, its upper limit.</summary>
    public long Length => FixedLength + _deferred.Sum(d => (long)d.MaxBytes);

    public bool IsDeferred => _deferred.Count > 0;

    /// <summary>The offset of a tensor's first byte in the file.</summary>
    public long OffsetOf(string name) => _offsets[_names.Find(name)];

    /// <summary>The layout of a file that exists, whose header is kept as it is.</summary>
    public static ShardLayout Of(byte[] header, IReadOnlyList<StoredTensor> stored) => new(header, stored);

    /// <summary>Fills in the deferred tensors, by name. Gives the final header, as long as <see cref="Header"/>, and the bytes that follow
    /// at <see cref="FixedLength"/>.</summary>
    public (ShardHeader Header, byte[] Tail) Complete(IReadOnlyDictionary<string, byte[]> contents)
    {
        var header = new ShardHeader(
            Tensors.Concat(_deferred.Select(d => Bytes(d.Name, contents[d.Name].Length))), _metadata, Header.Length);
        return header.Length == Header.Length
            ? (header, [.. _deferred.SelectMany(d => contents[d.Name])])
            : throw new InvalidOperationException("The header has outgrown the space reserved for it.");
    }

    private NameIndex Index()
    {
        var names = new NameIndex(i => Tensors[i].Name, Tensors.Count);
        foreach (var tensor in Tensors)
        {
            if (!names.TryAdd())
            {
                throw new InvalidOperationException($"Two tensors are called '{tensor.Name}'.");
            }
        }

        return names;
    }

    private static TensorSpec Bytes(string name, int length) => new(name, TensorType.U8, [length]);
}
