using System.Buffers;
using System.Security.Cryptography;
using System.Text.Encodings.Web;

namespace UnslothMerge.Safetensors;

/// <summary>The first bytes of a safetensors file: the header's length, the header and its padding. They are made each time that they are
/// written: with many tensors they would take as much memory as their plan.</summary>
internal sealed class ShardHeader
{
    private static readonly JsonWriterOptions Compact = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };
    private readonly Action<IBufferWriter<byte>> _write;

    /// <summary>A header that exists.</summary>
    public ShardHeader(byte[] bytes) => (Length, _write) = (bytes.Length, output => output.Write(bytes));

    /// <summary>That of some tensors, whose data lie in this order, padded to a length at least.</summary>
    public ShardHeader(IEnumerable<TensorSpec> tensors, IReadOnlyDictionary<string, string> metadata, int minLength)
    {
        var json = 0L;
        PieceWriter.Write(output => json = WriteJson(tensors, metadata, output), (_, _) => { });
        Length = (int)Math.Max(minLength, 8 + ((json + 7) / 8 * 8));
        _write = output =>
        {
            BinaryPrimitives.WriteInt64LittleEndian(output.GetSpan(8), Length - 8);
            output.Advance(8);
            WriteJson(tensors, metadata, output);
            output.Write(Encoding.ASCII.GetBytes(new string(' ', Length - 8 - (int)json)));
        };
    }

    /// <summary>The number of bytes.</summary>
    public int Length { get; }

    /// <summary>Their SHA-256.</summary>
    public byte[] Hash
    {
        get
        {
            using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
            Write((bytes, _) => hash.AppendData(bytes));
            return hash.GetHashAndReset();
        }
    }

    /// <summary>Hands them on, a piece at a time, with its offset.</summary>
    public void Write(Action<ReadOnlySpan<byte>, long> take) => PieceWriter.Write(_write, take);

    public byte[] ToArray()
    {
        var output = new ArrayBufferWriter<byte>(Length);
        _write(output);
        return output.WrittenSpan.ToArray();
    }

    // Gives the bytes that it has written.
    private static long WriteJson(
        IEnumerable<TensorSpec> tensors, IReadOnlyDictionary<string, string> metadata, IBufferWriter<byte> output)
    {
        using var json = new Utf8JsonWriter(output, Compact);
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
        foreach (var tensor in tensors)
        {
            json.WriteStartObject(tensor.Name);
            json.WriteString("dtype", tensor.Type.ToString());
            json.WriteStartArray("shape");
            foreach (var dimension in tensor.Shape)
            {
                json.WriteNumberValue(dimension);
            }

            json.WriteEndArray();
            json.WriteStartArray("data_offsets");
            json.WriteNumberValue(begin);
            json.WriteNumberValue(begin += tensor.Bytes);
            json.WriteEndArray();
            json.WriteEndObject();
        }

        json.WriteEndObject();
        json.Flush();
        return json.BytesCommitted;
    }
}
