using System.IO.Compression;

namespace UnslothMerge.Tests.Pickle;

/// <summary>Tensors are found in the archive where torch put them, or the file is refused.</summary>
public sealed class TorchFileTests
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
        using var directory = new TemporaryDirectory();
        var tensor = Gen.Select(Gen.Int[0, Classes.Length - 1], Gen.Long[0, 4].Array[0, 4], Gen.Int[0, 5], Gen.Int[0, 5]);
        var file = 0;
        tensor.Array[1, 12].Sample(
            tensors =>
            {
                var path = directory[$"{Interlocked.Increment(ref file)}.bin"];
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
        using var directory = new TemporaryDirectory();
        byte[] data = [.. Enumerable.Range(0, 24).Select(i => (byte)i)];
        var pickle = new PickleBuilder().Proto().Op("}(").Text("a").Tensor("FloatStorage", "0", 6, 0, [2, 3]).Text("b")
            .Tensor("FloatStorage", "0", 6, 3, [3, 1], [1, 77]).Op("u.");
        PickleBuilder.Save(directory["x.bin"], pickle.Bytes, [("0", data)], byteOrder: null);
        using var files = new InputFiles();
        Assert.Equal([data, data[12..]], TorchFile.Open(directory["x.bin"]).Select(files.ReadAll));
    }

    [Theory]
    [InlineData("strides", 6, 0, new long[] { 2, 3 }, new long[] { 1, 2 })]
    [InlineData("strides", 6, 0, new long[] { 2, 3 }, new long[] { 0, 1 })]
    [InlineData("strides", 6, 0, new long[] { 2, 2 }, new long[] { 3, 1 })]
    [InlineData("beyond its storage", 6, 1, new long[] { 2, 3 }, new long[] { 3, 1 })]
    [InlineData("beyond its storage", 6, long.MaxValue, new long[] { 2, 3 }, new long[] { 3, 1 })]
    [InlineData("beyond its storage", 6, 0, new long[] { 1L << 62, 1L << 62, 4 }, new long[] { 4, 4, 1 })]
    [InlineData("beyond its storage", 6, 0, new long[] { 1L << 32, 1L << 32 }, new long[] { 1L << 32, 1 })]
    [InlineData("24 bytes", 7, 0, new long[] { 2, 3 }, new long[] { 3, 1 })]
    [InlineData("24 bytes", 1L << 62, 0, new long[] { 2, 3 }, new long[] { 3, 1 })]
    public void RefusesTensorsThatAreNotThere(string reason, long count, long offset, long[] shape, long[] strides)
    {
        using var directory = new TemporaryDirectory();
        var pickle = new PickleBuilder().Proto().Op("}").Text("w").Tensor("FloatStorage", "0", count, offset, shape, strides).Op("s.");
        PickleBuilder.Save(directory["x.bin"], pickle.Bytes, [("0", new byte[24])]);
        var message = Refusal(directory["x.bin"]);
        Assert.Contains(reason, message, StringComparison.Ordinal);
        Assert.Contains("'w'", message, StringComparison.Ordinal);
    }

    [Fact]
    public void RefusesMissingStoragesOtherByteOrdersCompressionAndEncryption()
    {
        using var directory = new TemporaryDirectory();
        var pickle = new PickleBuilder().Proto().Op("}").Text("w").Tensor("FloatStorage", "../0", 1, 0, [1]).Op("s.").Bytes;
        PickleBuilder.Save(directory["missing"], pickle, []);
        Assert.Contains("'data/../0', is missing", Refusal(directory["missing"]), StringComparison.Ordinal);

        PickleBuilder.Save(directory["big"], pickle, [], "big");
        Assert.Contains("byteorder is 'big'", Refusal(directory["big"]), StringComparison.Ordinal);

        PickleBuilder.Save(directory["compressed"], [.. pickle, .. new byte[1000]], [], null, CompressionLevel.Optimal);
        Assert.Contains("compressed", Refusal(directory["compressed"]), StringComparison.Ordinal);

        // Bit 0 of the flags in the central directory.
        var encrypted = File.ReadAllBytes(directory["missing"]);
        encrypted[encrypted.AsSpan().IndexOf("PK\x1\x2"u8) + 8] |= 1;
        File.WriteAllBytes(directory["encrypted"], encrypted);
        Assert.Contains("encrypted", Refusal(directory["encrypted"]), StringComparison.Ordinal);
    }

    [Fact]
    public void RefusesTheLegacyFormatByName()
    {
        using var directory = new TemporaryDirectory();
        File.WriteAllBytes(directory["x.bin"],
            [0x80, 2, 0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, (byte)'.', 0x80, 2]);
        Assert.Contains("legacy", Refusal(directory["x.bin"]), StringComparison.Ordinal);
        File.WriteAllBytes(directory["y.bin"], [.. "version https://git-lfs.github.com/spec/v1"u8]);
        Assert.Contains("not a zip archive", Refusal(directory["y.bin"]), StringComparison.Ordinal);
    }

    [Fact]
    public void ReadsZip64()
    {
        using var directory = new TemporaryDirectory();
        var source = Path.Combine(Fixtures.Adapter("bin-adapter"), AdapterDirectory.PickledWeightsName);
        File.WriteAllBytes(directory["x.bin"], Zip64(File.ReadAllBytes(source)));
        using var files = new InputFiles();
        Assert.Equal(TorchFile.Open(source).Select(files.ReadAll), TorchFile.Open(directory["x.bin"]).Select(files.ReadAll));
    }

    [Fact]
    public void EveryTruncationAndChangeIsReadOrRefused()
    {
        using var directory = new TemporaryDirectory();
        var bytes = File.ReadAllBytes(Path.Combine(Fixtures.Adapter("bin-adapter"), AdapterDirectory.PickledWeightsName));
        for (var length = 0; length < bytes.Length; length += 61)
        {
            File.WriteAllBytes(directory["x.bin"], bytes[..length]);
            Refusal(directory["x.bin"]);
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

                var path = directory[$"{Interlocked.Increment(ref file)}"];
                File.WriteAllBytes(path, changed);
                try
                {
                    Assert.All(TorchFile.Open(path), t => Assert.InRange(t.Offset + t.Length, t.Length, start));
                }
                catch (PickleException)
                {
                }
            },
            iter: 300);
    }

    [Fact]
    public void SafetensorsArePreferred()
    {
        using var directory = new TemporaryDirectory();
        foreach (var file in Directory.EnumerateFiles(Fixtures.Adapter("weighted-two", "adapter0")))
        {
            File.Copy(file, directory[Path.GetFileName(file)]);
        }

        File.WriteAllText(directory[AdapterDirectory.PickledWeightsName], "not a pickle");
        Assert.True(AdapterDirectory.Open(directory.Path).Weights.IsSafetensors);
    }

    [Fact]
    public void SavedAsAdapterItBecomesSafetensors()
    {
        using var directory = new TemporaryDirectory();
        var @base = ModelDirectory.Open(Fixtures.Base("llama-bf16"));
        var adapter = AdapterDirectory.Open(Fixtures.Adapter("bin-adapter"));
        var destination = Destination.Check(directory["out"], [], force: false);
        AdapterSaver.Save(MergePlanner.Plan(@base, [new AdapterStep(adapter, 1)]), destination, sync: false);

        var saved = AdapterDirectory.Open(destination.Path);
        Assert.True(saved.Weights.IsSafetensors);
        Assert.False(File.Exists(Path.Combine(destination.Path, AdapterDirectory.PickledWeightsName)));
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

    private static string Refusal(string path) => Assert.Throws<PickleException>(() => TorchFile.Open(path)).Message;
}
