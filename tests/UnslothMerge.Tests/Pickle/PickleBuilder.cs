using System.IO.Compression;

namespace UnslothMerge.Tests.Pickle;

/// <summary>Writes pickles opcode by opcode, as torch.save does, and as nobody should.</summary>
internal sealed class PickleBuilder
{
    private readonly List<byte> _bytes = [];
    private int _kept;

    public byte[] Bytes => [.. _bytes];

    /// <summary>The archive of a whole file.</summary>
    public static void Save(string path, byte[] pickle, IEnumerable<(string Key, byte[] Data)> storages, string? byteOrder = "little",
        CompressionLevel level = CompressionLevel.NoCompression)
    {
        using var zip = ZipFile.Open(path, ZipArchiveMode.Create);
        Add("data.pkl", pickle);
        if (byteOrder is not null)
        {
            Add("byteorder", Encoding.ASCII.GetBytes(byteOrder));
        }

        foreach (var (key, data) in storages)
        {
            Add($"data/{key}", data);
        }

        void Add(string name, byte[] data)
        {
            using var stream = zip.CreateEntry($"adapter_model/{name}", level).Open();
            stream.Write(data);
        }
    }

    public PickleBuilder Proto(byte version = 2) => Raw(0x80, version);

    public PickleBuilder Raw(params byte[] bytes)
    {
        _bytes.AddRange(bytes);
        return this;
    }

    public PickleBuilder Op(string opcodes) => Raw(Encoding.Latin1.GetBytes(opcodes));

    public PickleBuilder Text(string text)
    {
        var utf8 = Encoding.UTF8.GetBytes(text);
        Op("X");
        return U32((uint)utf8.Length).Raw(utf8);
    }

    public PickleBuilder Global(string module, string name) => Op($"c{module}\n{name}\n");

    public PickleBuilder U32(uint value)
    {
        var bytes = new byte[4];
        BinaryPrimitives.WriteUInt32LittleEndian(bytes, value);
        return Raw(bytes);
    }

    /// <summary>An int in the shortest opcode, as Python writes it.</summary>
    public PickleBuilder Int(long value)
    {
        var bytes = new byte[8];
        BinaryPrimitives.WriteInt64LittleEndian(bytes, value);
        return value switch
        {
            >= 0 and <= byte.MaxValue => Op("K").Raw(bytes[0]),
            >= 0 and <= ushort.MaxValue => Op("M").Raw(bytes[..2]),
            >= int.MinValue and <= int.MaxValue => Op("J").Raw(bytes[..4]),
            _ => Raw(0x8a, 8).Raw(bytes),
        };
    }

    public PickleBuilder Ints(params long[] values)
    {
        Op("(");
        foreach (var value in values)
        {
            Int(value);
        }

        return Op("t");
    }

    /// <summary>Keeps the value on top of the stack in the memo, as pickle does with nearly every one.</summary>
    public PickleBuilder Keep() => _kept <= byte.MaxValue ? Op("q").Raw((byte)_kept++) : Op("r").U32((uint)_kept++);

    public PickleBuilder Storage(string type, string key, long count) =>
        Op("(").Text("storage").Keep().Global("torch", type).Keep().Text(key).Keep().Text("cuda:0").Keep().Int(count).Op("t").Keep()
            .Op("Q");

    /// <summary>A tensor, contiguous if no strides are given.</summary>
    public PickleBuilder Tensor(string type, string key, long count, long offset, long[] shape, long[]? strides = null)
    {
        Global("torch._utils", "_rebuild_tensor_v2").Keep().Op("(").Storage(type, key, count).Int(offset).Ints(shape).Keep()
            .Ints(strides ?? Strides(shape)).Keep().Raw(0x89);
        return Global("collections", "OrderedDict").Keep().Op(")R").Keep().Op("t").Keep().Op("R").Keep();
    }

    public static long[] Strides(long[] shape) => [.. shape.Select((_, i) => shape.Skip(i + 1).Aggregate(1L, (a, b) => a * b))];
}
