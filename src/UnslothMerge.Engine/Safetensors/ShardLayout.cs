using System.Buffers.Binary;
using System.Text.Encodings.Web;
using System.Text.Json;

namespace UnslothMerge.Safetensors;

/// <summary>A tensor to be written: its name, dtype and shape.</summary>
public sealed record TensorSpec(string Name, TensorType Type, IReadOnlyList<long> Shape)
{
    /// <summary>The length of its data in bytes.</summary>
    public long Bytes => checked(Shape.Count() * Type.Bits()) / 8;
}

/// <summary>
/// The layout of one safetensors file to be written: the header's bytes, and where each tensor's data will lie.
/// Tensors are ordered as the reference writer orders them, by dtype (descending) and then by name; the header is compact JSON,
/// <c>__metadata__</c> first, padded with spaces to a multiple of 8. Source: huggingface/safetensors 0.8, <c>prepare</c>.
/// </summary>
public sealed class ShardLayout
{
    private static readonly JsonWriterOptions Compact = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };
    private readonly Dictionary<string, long> _offsets = new(StringComparer.Ordinal);

    /// <summary>Lays out a file.</summary>
    /// <param name="tensors">The tensors, in any order; names must differ.</param>
    /// <param name="metadata">The entries of <c>__metadata__</c>.</param>
    public ShardLayout(IEnumerable<TensorSpec> tensors, IReadOnlyDictionary<string, string> metadata)
    {
        Tensors = [.. tensors.OrderByDescending(t => t.Type).ThenBy(t => t.Name, StringComparer.Ordinal)];
        Header = WriteHeader(metadata);
        var offset = (long)Header.Length;
        foreach (var tensor in Tensors)
        {
            _offsets.Add(tensor.Name, offset);
            offset += tensor.Bytes;
        }

        Length = offset;
    }

    /// <summary>The tensors in the order of their data.</summary>
    public IReadOnlyList<TensorSpec> Tensors { get; }

    /// <summary>The first bytes of the file: the header's length, the header and its padding.</summary>
    public byte[] Header { get; }

    /// <summary>The length of the whole file in bytes.</summary>
    public long Length { get; }

    /// <summary>The position of a tensor's first byte in the file.</summary>
    public long OffsetOf(string name) => _offsets[name];

    private byte[] WriteHeader(IReadOnlyDictionary<string, string> metadata)
    {
        using var stream = new MemoryStream();
        stream.Write(stackalloc byte[8]);
        using (var json = new Utf8JsonWriter(stream, Compact))
        {
            json.WriteStartObject();
            if (metadata.Count > 0)
            {
                json.WriteStartObject("__metadata__");
                foreach (var (key, value) in metadata)
                {
                    json.WriteString(key, value);
                }

                json.WriteEndObject();
            }

            var begin = 0L;
            foreach (var tensor in Tensors)
            {
                json.WriteStartObject(tensor.Name);
                json.WriteString("dtype", tensor.Type.ToString());
                WriteNumbers(json, "shape", tensor.Shape);
                WriteNumbers(json, "data_offsets", [begin, begin + tensor.Bytes]);
                json.WriteEndObject();
                begin += tensor.Bytes;
            }

            json.WriteEndObject();
        }

        while (stream.Length % 8 != 0)
        {
            stream.WriteByte((byte)' ');
        }

        var header = stream.ToArray();
        BinaryPrimitives.WriteInt64LittleEndian(header, header.Length - 8);
        return header;
    }

    private static void WriteNumbers(Utf8JsonWriter json, string name, IReadOnlyList<long> numbers)
    {
        json.WriteStartArray(name);
        foreach (var number in numbers)
        {
            json.WriteNumberValue(number);
        }

        json.WriteEndArray();
    }
}
