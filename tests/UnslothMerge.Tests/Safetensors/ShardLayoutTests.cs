namespace UnslothMerge.Tests.Safetensors;

public sealed class ShardLayoutTests : FileTests
{
    // Letters of all lengths in UTF-8, and everything that JSON escapes or an encoder might.
    private static readonly string[] Letters =
        ["a", "Z", ".", "0", "\"", "\\", "/", "\n", "\t", "\0", "\u007f", "<", "&", "+", "'", "é", "\u2028", "層", "🙂"];

    private static readonly Gen<string> Name = Gen.Int[0, Letters.Length - 1].Array[0, 8]
        .Select(n => string.Concat(n.Select(i => Letters[i]))).Where(n => n != "__metadata__");

    private static readonly Gen<TensorSpec> Spec =
        Gen.Select(Name, Gen.Int[0, Enum.GetValues<TensorType>().Length - 1].Select(i => (TensorType)i), Gen.Long[0, 5].Array[0, 4],
            (n, t, s) => new TensorSpec(n, t, s))
        .Where(s => s.Shape.Count() * s.Type.Bits() % 8 == 0);

    [Fact]
    public void What_is_laid_out_is_read_back()
    {
        var path = Temp["f.safetensors"];
        Spec.Array[0, 12].Select(specs => specs.DistinctBy(s => s.Name).ToArray()).Sample(
            specs =>
            {
                var layout = new ShardLayout(specs, new Dictionary<string, string> { ["format"] = "pt" });
                File.WriteAllBytes(path, [.. layout.Header.ToArray(), .. new byte[layout.Length - layout.Header.Length]]);

                var file = SafetensorsFile.Open(path);
                Assert.Equal(specs.Length, file.Tensors.Count);
                foreach (var tensor in file.Tensors)
                {
                    var spec = specs.Single(s => s.Name == tensor.Name);
                    Assert.Equal((spec.Type, spec.Bytes), (tensor.Type, tensor.Length));
                    Assert.Equal(spec.Shape, tensor.Shape);
                    if (spec.Bytes > 0)
                    {
                        Assert.Equal(layout.OffsetOf(spec.Name), tensor.Offset);
                    }
                }
            },
            iter: 500,
            threads: 1);
    }

    [Fact]
    public void The_header_is_the_reference_writers() =>
        Spec.Array[0, 12].Select(specs => specs.DistinctBy(s => s.Name).ToArray()).Sample(specs =>
    {
        var header = new ShardLayout(specs, new Dictionary<string, string> { ["format"] = "pt" }).Header.ToArray();
        Assert.Equal(header.Length - 8, BinaryPrimitives.ReadInt64LittleEndian(header));
        Assert.Equal(0, header.Length % 8);

        var text = System.Text.Encoding.UTF8.GetString(header, 8, header.Length - 8);
        Assert.StartsWith("""{"__metadata__":{"format":"pt"}""", text, StringComparison.Ordinal);
        Assert.True(text.Length - text.TrimEnd(' ').Length < 8);
        Assert.EndsWith("}", text.TrimEnd(' '), StringComparison.Ordinal);

        using var json = JsonDocument.Parse(text);
        var order = json.RootElement.EnumerateObject().Skip(1)
            .Select(p => (Type: Enum.Parse<TensorType>(p.Value.GetProperty("dtype").GetString()!), p.Name)).ToList();
        Assert.Equal(order.OrderByDescending(t => t.Type).ThenBy(t => t.Name, StringComparer.Ordinal), order);
    });

    [Fact]
    public void A_header_is_compact_and_padded_with_spaces()
    {
        var header = new ShardLayout([new TensorSpec("b", TensorType.BF16, [2, 3]), new TensorSpec("a", TensorType.F32, [])],
            new Dictionary<string, string>()).Header.ToArray();
        const string json =
            """{"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]},"b":{"dtype":"BF16","shape":[2,3],"data_offsets":[4,16]}}""";
        Assert.Equal(json.PadRight((json.Length + 7) / 8 * 8), System.Text.Encoding.UTF8.GetString(header, 8, header.Length - 8));
    }
}
