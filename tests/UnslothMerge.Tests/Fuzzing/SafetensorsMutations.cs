namespace UnslothMerge.Tests.Fuzzing;

/// <summary>Damages a safetensors file: the header's text, values, or its tensors in a file that is valid otherwise, so that readers get
/// past the header.</summary>
internal static class SafetensorsMutations
{
    private const int MaxBytes = 1 << 20;

    private static readonly long[] Dimensions = [0, 1, 2, 3, 16, int.MaxValue, 1L << 31, 1L << 40, long.MaxValue];

    private static readonly TensorType[] Types = Enum.GetValues<TensorType>();

    /// <summary>A damaged copy of a file.</summary>
    public static byte[] Apply(byte[] content, Random random)
    {
        var length = (int)BinaryPrimitives.ReadInt64LittleEndian(content);
        var header = JsonNode.Parse(content.AsSpan(8, length))!.AsObject();
        var data = content[(8 + length)..];
        switch (random.Next(8))
        {
            case 0:
                return File(JsonMutations.Text(JsonMutations.Damage(header, random)), data);
            case 1:
                return File(content[8..(8 + length)], Mutations.Bytes(data, random)[..^0]);
            case 2:
                return File(content[8..(8 + length)], Values(data, random));
            default:
                var tensors = header.Where(p => p.Key != "__metadata__").Select(p => Of(p.Key, p.Value!.AsObject(), data)).ToList();
                for (var times = random.Next(3) == 0 ? 3 : 1; times > 0 && tensors.Count > 0; times--)
                {
                    Damage(tensors, random);
                }

                return File(tensors.DistinctBy(t => t.Name));
        }
    }

    private static TinyTensor Of(string name, JsonObject entry, byte[] data)
    {
        var offsets = entry["data_offsets"]!.AsArray().Select(o => (int)o!).ToList();
        _ = TensorTypes.TryParse((string?)entry["dtype"], out var type);
        return new TinyTensor(name, type, [.. entry["shape"]!.AsArray().Select(d => (long)d!)], data[offsets[0]..offsets[1]]);
    }

    private static void Damage(List<TinyTensor> tensors, Random random)
    {
        var at = random.Next(tensors.Count);
        var tensor = tensors[at];
        switch (random.Next(10))
        {
            case 0:
                tensors.RemoveAt(at);
                break;
            case 1:
                var dot = tensor.Name.LastIndexOf('.') + 1;
                var name = random.Next(2) == 0 ? tensor.Name[..dot] + random.Of(Mutations.Known) : random.Of(tensors).Name;
                tensors[at] = tensor with { Name = name };
                break;
            case 2:
                tensors.Add(tensor with { Name = tensor.Name + random.Of(Mutations.Known) });
                break;
            case 3:
                tensors[at] = tensor with { Type = random.Of(Types) };
                break;
            case 4:
                tensors[at] = tensor with { Shape = random.Of(tensors).Shape };
                break;
            case 5:
                tensors[at] = tensor with { Bytes = Values(tensor.Bytes, random) };
                break;
            default:
                tensors[at] = tensor with { Shape = Shape(tensor.Shape, random) };
                break;
        }
    }

    private static long[] Shape(long[] shape, Random random)
    {
        var list = shape.ToList();
        var at = random.Next(list.Count + 1);
        switch (random.Next(8))
        {
            case 0:
                list.Clear();
                break;
            case 1:
                list.Insert(at, random.Of(Dimensions));
                break;
            case 2 when at < list.Count:
                list.RemoveAt(at);
                break;
            case 3:
                list.Reverse();
                break;
            case 4:
                list = [list.Aggregate(1L, (a, b) => unchecked(a * b)) & long.MaxValue];
                break;
            case 5 when at < list.Count:
                list[at] += random.Next(2) == 0 ? 1 : -1;
                break;
            case 6:
                list = [.. list.Select(_ => random.Of(Dimensions))];
                break;
            case var _ when at < list.Count:
                list[at] = random.Of(Dimensions);
                break;
            default:
                list = [0, .. list];
                break;
        }

        return [.. list.Select(d => Math.Max(d, 0))];
    }

    // NaN and infinity in whatever dtype, zeros, or one value throughout.
    private static byte[] Values(byte[] data, Random random)
    {
        var copy = data.ToArray();
        var start = random.Next(copy.Length + 1);
        byte[] pattern = random.Next(4) switch
        {
            0 => [0xFF],
            1 => [0x80, 0x7F],
            2 => [0],
            _ => random.NextBytes(4),
        };
        for (var i = start; i < copy.Length && i < start + 64; i++)
        {
            copy[i] = pattern[i % pattern.Length];
        }

        return copy;
    }

    // Every tensor has as many bytes as its shape says, as far as they can be written.
    private static byte[] File(IEnumerable<TinyTensor> tensors)
    {
        var (header, data) = (new JsonObject(), new List<byte>());
        foreach (var (name, type, shape, bytes) in tensors)
        {
            var begin = data.Count;
            var wanted = shape.Aggregate((UInt128)type.Bits(), (a, b) => a > int.MaxValue && b > 0 ? a : a * (ulong)b) / 8;
            var count = wanted > MaxBytes ? bytes.Length : (int)wanted;
            data.AddRange(bytes.Take(count));
            data.AddRange(new byte[count - Math.Min(count, bytes.Length)]);
            header[name] = new JsonObject
            {
                ["dtype"] = type.ToString(),
                ["shape"] = new JsonArray([.. shape.Select(d => (JsonNode)d)]),
                ["data_offsets"] = new JsonArray(begin, data.Count),
            };
        }

        return File(Encoding.UTF8.GetBytes(header.ToJsonString()), [.. data]);
    }

    private static byte[] File(byte[] header, byte[] data)
    {
        var length = new byte[8];
        BinaryPrimitives.WriteInt64LittleEndian(length, header.Length);
        return [.. length, .. header, .. data];
    }
}
