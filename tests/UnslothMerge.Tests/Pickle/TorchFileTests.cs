using System.IO.Compression;

namespace UnslothMerge.Tests.Pickle;

/// <summary>Tensors are found in the archive where torch put them, or the file is refused.</summary>
public sealed class TorchFileTests : FileTests
{
    private static readonly (string Class, TensorType Type)[] Classes =
    [
        ("HalfStorage", TensorType.F16), ("BFloat16Storage", TensorType.BF16), ("FloatStorage", TensorType.F32),
        ("DoubleStorage", TensorType.F64), ("IntStorage", TensorType.I32),
        ("LongStorage", TensorType.I64), ("ShortStorage", TensorType.I16), ("CharStorage", TensorType.I8), ("ByteStorage", TensorType.U8),
        ("BoolStorage", TensorType.BOOL),
    ];

    [Fact]
    public void TensorsAreTheBytesOfTheirStorages()
    {
        var tensor = Gen.Select(Gen.Int[0, Classes.Length - 1], Gen.Long[0, 4].Array[0, 4], Gen.Int[0, 5], Gen.Int[0, 5]);
        var file = 0;
        tensor.Array[1, 12].Sample(
            tensors =>
            {
                var path = Temp[$"{Interlocked.Increment(ref file)}.bin"];
                var pickle = new PickleBuilder().Proto().Op("}").Keep().Op("(");
                var storages = new List<(string, byte[])>();
                var expected = new List<byte[]>();
                for (var i = 0; i < tensors.Length; i++)
                {
                    var (kind, shape, before, after) = tensors[i];
                    var width = Classes[kind].Type.Bits() / 8;
                    var count = shape.Count();
                    var data = new byte[(before + count + after) * width];
                    new Random(i).NextBytes(data);
                    pickle.Text($"t{i}").Keep().Tensor(Classes[kind].Class, $"{i}", before + count + after, before, shape);
                    storages.Add(($"{i}", data));
                    expected.Add(data[(before * width)..^(after * width)]);
                }

                PickleBuilder.Save(path, pickle.Op("u.").Bytes, storages);
                var actual = TorchFile.Open(path);
                using var files = new InputFiles();
                Assert.Equal(tensors.Select((t, i) => ($"t{i}", Classes[t.Item1].Type)), actual.Select(t => (t.Name, t.Type)));
                Assert.Equal(tensors.Select(t => t.Item2), actual.Select(t => t.Shape));
                Assert.Equal(expected, actual.Select(files.ReadAll));
            },
            iter: 50);
    }

    [Fact]
    public void TensorsMayShareAStorage()
    {
        byte[] data = [.. Enumerable.Range(0, 24).Select(i => (byte)i)];
        var pickle = new PickleBuilder().Proto().Op("}(").Text("a").Tensor("FloatStorage", "0", 6, 0, [2, 3]).Text("b")
            .Tensor("FloatStorage", "0", 6, 3, [3, 1], [1, 77]).Op("u.");
        PickleBuilder.Save(Temp["x.bin"], pickle.Bytes, [("0", data)], byteOrder: null);
        using var files = new InputFiles();
        Assert.Equal([data, data[12..]], TorchFile.Open(Temp["x.bin"]).Select(files.ReadAll));
    }

    [Theory]
    [InlineData("beyond its storage", 6, 0, new long[] { 2, 3 }, new long[] { 4, 1 })]
    [InlineData("beyond its storage", 6, 0, new long[] { 2, 1L << 40 }, new long[] { 0, 1L << 40 })]
    [InlineData("beyond its storage", 6, 1, new long[] { 2, 3 }, new long[] { 3, 1 })]
    [InlineData("beyond its storage", 6, long.MaxValue, new long[] { 2, 3 }, new long[] { 3, 1 })]
    [InlineData("beyond its storage", 6, 0, new long[] { 1L << 62, 1L << 62, 4 }, new long[] { 4, 4, 1 })]
    [InlineData("beyond its storage", 6, 0, new long[] { 1L << 32, 1L << 32 }, new long[] { 1L << 32, 1 })]
    [InlineData("repeats the 6 values", 6, 0, new long[] { 1L << 20, 1L << 20 }, new long[] { 0, 0 })]
    [InlineData("repeats the 6 values", 6, 0, new long[] { 1L << 26, 6 }, new long[] { 0, 1 })]
    [InlineData("24 bytes", 7, 0, new long[] { 2, 3 }, new long[] { 3, 1 })]
    [InlineData("24 bytes", 1L << 62, 0, new long[] { 2, 3 }, new long[] { 3, 1 })]
    public void RefusesTensorsThatAreNotThere(string reason, long count, long offset, long[] shape, long[] strides)
    {
        var pickle = new PickleBuilder().Proto().Op("}").Text("w").Tensor("FloatStorage", "0", count, offset, shape, strides).Op("s.");
        PickleBuilder.Save(Temp["x.bin"], pickle.Bytes, [("0", new byte[24])]);
        var message = Refusal(Temp["x.bin"]);
        Assert.Contains(reason, message, StringComparison.Ordinal);
        Assert.Contains("'w'", message, StringComparison.Ordinal);
    }

    [Fact]
    public void RefusesMissingStoragesOtherByteOrdersCompressionAndEncryption()
    {
        var pickle = new PickleBuilder().Proto().Op("}").Text("w").Tensor("FloatStorage", "../0", 1, 0, [1]).Op("s.").Bytes;
        PickleBuilder.Save(Temp["missing"], pickle, []);
        Assert.Contains("'data/../0', is missing", Refusal(Temp["missing"]), StringComparison.Ordinal);

        PickleBuilder.Save(Temp["big"], pickle, [], "big");
        Assert.Contains("byteorder is 'big'", Refusal(Temp["big"]), StringComparison.Ordinal);

        PickleBuilder.Save(Temp["compressed"], [.. pickle, .. new byte[1000]], [], null, CompressionLevel.Optimal);
        Assert.Contains("compressed", Refusal(Temp["compressed"]), StringComparison.Ordinal);

        // Bit 0 of the flags in the central Temp.
        var encrypted = File.ReadAllBytes(Temp["missing"]);
        encrypted[encrypted.AsSpan().IndexOf("PK\x1\x2"u8) + 8] |= 1;
        File.WriteAllBytes(Temp["encrypted"], encrypted);
        Assert.Contains("encrypted", Refusal(Temp["encrypted"]), StringComparison.Ordinal);
    }

    [Fact]
    public void ReadsTheFormatBeforeArchives()
    {
        PickleBuilder New() => new PickleBuilder().Proto();
        var pickles = new[]
        {
            New().Int(1001).Op("."), New().Op("}(").Text("little_endian").Raw(0x88).Text("type_sizes").Op("}u."),
            New().Op("}(").Text("a").Tensor("FloatStorage", "7", 6, 1, [2, 2], [1, 2]).Text("b").Tensor("CharStorage", "3", 2, 0, [2])
                .Op("u."),
            New().Op("](").Text("7").Text("3").Op("e."),
        }.SelectMany(p => p.Bytes);
        byte[] file =
        [
            0x80, 2, 0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, (byte)'.', .. pickles,
            .. BitConverter.GetBytes(6L), .. MemoryMarshal.AsBytes<float>([0, 1, 2, 3, 4, 5]), .. BitConverter.GetBytes(2L), 8, 9,
        ];
        File.WriteAllBytes(Temp["x.bin"], file);
        using var files = new InputFiles();
        var tensors = TorchFile.Open(Temp["x.bin"]);
        Assert.Equal([1f, 3f, 2f, 4f], files.ReadAll<float>(tensors[0]));
        Assert.Equal([8, 9], files.ReadAll(tensors[1]));
        for (var length = 0; length < file.Length; length++)
        {
            File.WriteAllBytes(Temp["y.bin"], file[..length]);
            Refusal(Temp["y.bin"]);
        }
    }

    [Fact]
    public void RefusesAGitPointerByName()
    {
        File.WriteAllBytes(Temp["y.bin"], [.. "version https://git-lfs.github.com/spec/v1"u8]);
        Assert.Contains("git lfs pull", Refusal(Temp["y.bin"]), StringComparison.Ordinal);
    }

    /// <summary>A view of any strides reads as its elements one by one, whatever part is asked for.</summary>
    [Fact]
    public void ViewsAreReadInTheirOrder()
    {
        var values = Enumerable.Range(0, 4000).Select(i => (short)i).ToArray();
        File.WriteAllBytes(Temp["x"], MemoryMarshal.AsBytes(values.AsSpan()).ToArray());
        var file = StoredFile.Of(Temp["x"]);
        using var files = new InputFiles();
        Gen.Select(Gen.Select(Gen.Long[1, 5], Gen.Long[0, 30]).Array[1, 4], Gen.Int[0, 3], Gen.Int[0, 1000], Gen.Int[0, 1000]).Sample(
            (dimensions, offset, a, b) =>
            {
                var count = (int)dimensions.Aggregate(1L, (n, d) => n * d.Item1);
                var tensor = new StoredTensor("t", TensorType.I16, [count], file, 2 * offset, 2 * count) { Strides = dimensions };
                var places = dimensions.Aggregate(new[] { (long)offset },
                    (all, d) => [.. all.SelectMany(p => Enumerable.Range(0, (int)d.Item1).Select(i => p + (i * d.Item2)))]);
                var (from, to) = (Math.Min(a, b) % (count + 1), Math.Max(a, b) % (count + 1));
                var part = new byte[2 * Math.Max(0, to - from)];
                files.Read(tensor, 2 * from, part);
                Assert.Equal(
                    places.Skip(from).Take(part.Length / 2).Select(p => values[p]), MemoryMarshal.Cast<byte, short>(part).ToArray());
            });
    }

    [Fact]
    public void ReadsZip64()
    {
        var source = Path.Combine(Fixtures.Adapter("bin-adapter"), AdapterDirectory.PickledWeightsName);
        File.WriteAllBytes(Temp["x.bin"], Zip64(File.ReadAllBytes(source)));
        using var files = new InputFiles();
        Assert.Equal(TorchFile.Open(source).Select(files.ReadAll), TorchFile.Open(Temp["x.bin"]).Select(files.ReadAll));
    }

    [Fact]
    public void EveryTruncationAndChangeIsReadOrRefused()
    {
        var bytes = File.ReadAllBytes(Path.Combine(Fixtures.Adapter("bin-adapter"), AdapterDirectory.PickledWeightsName));
        for (var length = 0; length < bytes.Length; length += 61)
        {
            File.WriteAllBytes(Temp["x.bin"], bytes[..length]);
            Refusal(Temp["x.bin"]);
        }

        // The directory is the last part: changes there are the ones that matter.
        var start = bytes.AsSpan().IndexOf("PK\x1\x2"u8);
        var file = 0;
        Gen.Select(Gen.Int[start, bytes.Length - 1], Gen.Byte).Array[1, 4].Sample(
            changes =>
            {
                var changed = bytes.ToArray();
                foreach (var (at, value) in changes)
                {
                    changed[at] = value;
                }

                var path = Temp[$"{Interlocked.Increment(ref file)}"];
                File.WriteAllBytes(path, changed);
                try
                {
                    Assert.All(TorchFile.Open(path), t => Assert.InRange(t.Offset + t.Length, t.Length, start));
                }
                catch (MergeException)
                {
                }
            },
            iter: 300);
    }

    [Fact]
    public void SafetensorsArePreferred()
    {
        foreach (var file in Directory.EnumerateFiles(Fixtures.Adapter("weighted-two", "adapter0")))
        {
            File.Copy(file, Temp[Path.GetFileName(file)]);
        }

        File.WriteAllText(Temp[AdapterDirectory.PickledWeightsName], "not a pickle");
        Assert.True(AdapterDirectory.Open(Temp.Path).IsAsSaved);
    }

    [Fact]
    public void SavedAsAdapterItBecomesSafetensors()
    {
        var @base = ModelDirectory.Open(Fixtures.Base("llama-bf16"));
        var adapter = AdapterDirectory.Open(Fixtures.Adapter("bin-adapter"));
        TinyModel.SaveAdapter(MergePlanner.Plan(@base, [new AdapterStep(adapter, 1)]), Temp["out"]);

        var saved = AdapterDirectory.Open(Temp["out"]);
        Assert.True(saved.IsAsSaved);
        Assert.False(File.Exists(Path.Combine(Temp["out"], AdapterDirectory.PickledWeightsName)));
        using var files = new InputFiles();
        Assert.Equal(Content(adapter), Content(saved));

        List<(string, TensorType, string, string)> Content(AdapterDirectory a) =>
            [.. a.Weights.Tensors.OrderBy(t => t.Name, StringComparer.Ordinal)
                .Select(t => (t.Name, t.Type, t.Shape.Text(), Convert.ToHexString(files.ReadAll(t))))];
    }

    // The same archive with every number that ZIP64 can hold moved there.
    private static byte[] Zip64(byte[] zip)
    {
        var end = zip.Length - 22;
        var count = BinaryPrimitives.ReadUInt16LittleEndian(zip.AsSpan(end + 10));
        var start = (int)BinaryPrimitives.ReadUInt32LittleEndian(zip.AsSpan(end + 16));
        var output = new MemoryStream();
        output.Write(zip.AsSpan(0, start));
        var at = start;
        for (var i = 0; i < count; i++)
        {
            var header = zip.AsSpan(at, 46).ToArray();
            var name = BinaryPrimitives.ReadUInt16LittleEndian(header.AsSpan(28));
            var skipped = name + BinaryPrimitives.ReadUInt16LittleEndian(header.AsSpan(30)) +
                BinaryPrimitives.ReadUInt16LittleEndian(header.AsSpan(32));
            ulong[] wide = [BinaryPrimitives.ReadUInt32LittleEndian(header.AsSpan(24)),
                BinaryPrimitives.ReadUInt32LittleEndian(header.AsSpan(20)), BinaryPrimitives.ReadUInt32LittleEndian(header.AsSpan(42))];
            header.AsSpan(20, 8).Fill(0xff);
            header.AsSpan(42, 4).Fill(0xff);
            BinaryPrimitives.WriteUInt16LittleEndian(header.AsSpan(30), 6 + 28);
            BinaryPrimitives.WriteUInt16LittleEndian(header.AsSpan(32), 0);
            output.Write(header);
            output.Write(zip.AsSpan(at + 46, name));
            output.Write([0x46, 0x42, 2, 0, 7, 7, 1, 0, 24, 0]);
            Array.ForEach(wide, w => output.Write(BitConverter.GetBytes(w)));
            at += 46 + skipped;
        }

        var end64 = output.Length;
        output.Write([0x50, 0x4b, 6, 6, .. BitConverter.GetBytes(44UL), 45, 0, 45, 0, .. new byte[8],
            .. BitConverter.GetBytes((ulong)count), .. BitConverter.GetBytes((ulong)count)]);
        output.Write([.. BitConverter.GetBytes((ulong)(end64 - start)), .. BitConverter.GetBytes((ulong)start)]);
        output.Write([0x50, 0x4b, 6, 7, .. new byte[4], .. BitConverter.GetBytes(end64), 1, 0, 0, 0]);
        output.Write([0x50, 0x4b, 5, 6, .. new byte[4], .. Enumerable.Repeat((byte)0xff, 12), 0, 0]);
        return output.ToArray();
    }

    private static string Refusal(string path) => Assert.ThrowsAny<MergeException>(() => TorchFile.Open(path)).Message;
}
