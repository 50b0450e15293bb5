namespace UnslothMerge.Tests.Pickle;

/// <summary>What torch.save writes is read; everything else is refused, and nothing is executed.</summary>
public sealed class UnpicklerTests
{
    private static PickleBuilder Tensor(PickleBuilder pickle) => pickle.Tensor("HalfStorage", "0", 6, 0, [2, 3]);

    [Fact]
    public void ReadsDictsOrderedDictsParametersAndMetadata()
    {
        // OrderedDict() with 'a' set one by one and 'b' and 'c' together, then the _metadata that nn.Module.state_dict adds.
        var pickle = new PickleBuilder().Proto().Global("collections", "OrderedDict").Keep().Op(")R").Keep();
        Tensor(pickle.Text("a")).Op("s").Op("(");
        Tensor(pickle.Text("b"));
        Tensor(pickle.Text("c").Global("torch._utils", "_rebuild_parameter").Op("(")).Raw(0x88).Op("}tRu").Op("}").Text("_metadata")
            .Op("}s").Op("b.");

        var tensors = Unpickler.Read(pickle.Bytes, "x.bin");
        Assert.Equal(["a", "b", "c"], tensors.Select(t => t.Name));
        Assert.All(tensors, t => Assert.Equal(new PickledStorage(TensorType.F16, "0", 6), t.Tensor.Storage));
        Assert.All(tensors, t => Assert.Equal([2L, 3L], t.Tensor.Shape));
        Assert.All(tensors, t => Assert.Equal([3L, 1L], t.Tensor.Strides));
    }

    [Fact]
    public void ReadsProtocol4()
    {
        var pickle = new PickleBuilder().Proto(4).Raw(0x95, 0, 0, 0, 0, 0, 0, 0, 0).Raw(0x7d, 0x94, 0x8c, 1, (byte)'w', 0x94)
            .Raw(0x8c, 12).Op("torch._utils").Raw(0x8c, 18).Op("_rebuild_tensor_v2").Raw(0x93, 0x94)
            .Op("(").Storage("LongStorage", "7", 5).Int(1).Int(4).Raw(0x85).Int(1).Raw(0x85).Raw(0x89).Global("collections", "OrderedDict")
                .Op(")RtRs.");
        var (name, tensor) = Assert.Single(Unpickler.Read(pickle.Bytes, "x.bin"));
        Assert.Equal(("w", TensorType.I64, "7", 1L), (name, tensor.Storage.Type, tensor.Storage.Key, tensor.Offset));
        Assert.Equal([4L], tensor.Shape);
    }

    [Theory]
    [InlineData("os", "system")]
    [InlineData("posix", "system")]
    [InlineData("builtins", "eval")]
    [InlineData("__builtin__", "getattr")]
    [InlineData("torch", "load")]
    [InlineData("torch._utils", "_rebuild_sparse_tensor")]
    [InlineData("collections", "OrderedDict.fromkeys")]
    [InlineData("torch.storage", "FloatStorage")]
    public void RefusesOtherGlobalsByName(string module, string name)
    {
        var called = new PickleBuilder().Proto().Global(module, name).Text("touch /tmp/x").Raw(0x85).Op("R.");
        var unused = new PickleBuilder().Proto().Op("}").Text("a").Global(module, name).Op("s.");
        var byStack = new PickleBuilder().Proto(4).Text(module).Text(name).Raw(0x93).Op(")R.");
        Assert.All([called, unused, byStack], p => Assert.Contains($"'{module}.{name}'", Refusal(p), StringComparison.Ordinal));
    }

    public static TheoryData<string, byte[]> Malformed => new()
    {
        { "cannot be called", new PickleBuilder().Proto().Global("torch", "FloatStorage").Op(")R.").Bytes },
        { "cannot be called", new PickleBuilder().Proto().Text("os.system").Op(")R.").Bytes },
        { "collections.OrderedDict with arguments",
            new PickleBuilder().Proto().Global("collections", "OrderedDict").Int(1).Raw(0x85).Op("R.").Bytes },
        { "_rebuild_tensor_v2 with arguments", new PickleBuilder().Proto().Tensor("FloatStorage", "0", 6, 0, [-2, -3]).Bytes },
        { "_rebuild_tensor_v2 with arguments", new PickleBuilder().Proto().Tensor("FloatStorage", "0", 6, -1, [2, 3]).Bytes },
        { "_rebuild_tensor_v2 with arguments", new PickleBuilder().Proto().Tensor("FloatStorage", "0", 6, 0, [2, 3], [-3, 1]).Bytes },
        { "_rebuild_tensor_v2 with arguments", new PickleBuilder().Proto().Tensor("FloatStorage", "0", 6, 0, [2, 3], [1]).Bytes },
        { "storage", new PickleBuilder().Proto().Storage("FloatStorage", "0", -1).Bytes },
        { "storage", new PickleBuilder().Proto().Text("0").Op("Q").Bytes },
        { "gets the memo 9", new PickleBuilder().Proto().Op("}h").Raw(9).Bytes },
        { "gets the memo 4000000000", new PickleBuilder().Proto().Op("}j").U32(4_000_000_000).Bytes },
        { "more values than it made", new PickleBuilder().Proto().Op("}(s").Bytes },
        { "more values than it made", new PickleBuilder().Proto().Op("R").Bytes },
        { "more values than it made", new PickleBuilder().Proto().Op("q").Raw(0).Bytes },
        { "did not begin", new PickleBuilder().Proto().Op("}u").Bytes },
        { "not a dict", new PickleBuilder().Proto().Op("}(NNNu").Bytes },
        { "something else than a dict", new PickleBuilder().Proto().Op("N.").Bytes },
        { "state of something else", new PickleBuilder().Proto().Op("N}b").Bytes },
        { "values left over", new PickleBuilder().Proto().Op("}}.").Bytes },
        { "values left over", new PickleBuilder().Proto().Op("}(.").Bytes },
        { "not a string", new PickleBuilder().Proto().Op("}").Int(3).Op("Ns.").Bytes },
        { "'a' is not a tensor", new PickleBuilder().Proto().Op("}").Text("a").Op("}s.").Bytes },
        { "'a' occurs twice", Tensor(Tensor(new PickleBuilder().Proto().Op("}(").Text("a")).Text("a")).Op("u.").Bytes },
        { "protocol is 6", new PickleBuilder().Proto(6).Op("}.").Bytes },
        { "0x69", new PickleBuilder().Proto().Op("(ios\nsystem\n").Bytes },
        { "0x6f", new PickleBuilder().Proto().Op("(o").Bytes },
        { "0x81", new PickleBuilder().Proto().Raw(0x81).Bytes },
        { "0x50", new PickleBuilder().Proto().Op("Px\n").Bytes },
        { "0x82", new PickleBuilder().Proto().Raw(0x82, 1).Bytes },
        { "not UTF-8", new PickleBuilder().Proto().Op("X").U32(1).Raw(0xff).Bytes },
        { "truncated", new PickleBuilder().Proto().Op("X").U32(uint.MaxValue).Op("x").Bytes },
        { "truncated", new PickleBuilder().Proto().Op("ctorch").Bytes },
        { "truncated", [] },
        { "a number of 9 bytes", new PickleBuilder().Proto().Raw(0x8a, 9, 0, 0, 0, 0, 0, 0, 0, 0, 1).Bytes },
        { "values on the stack", new PickleBuilder().Proto().Raw([.. Enumerable.Repeat((byte)'N', 70_000)]).Bytes },
        { "nests deeper", new PickleBuilder().Proto().Raw([.. Enumerable.Repeat((byte)'(', 70_000)]).Bytes },
    };

    [Theory, MemberData(nameof(Malformed))]
    public void RefusesWhatTorchDoesNotWrite(string reason, byte[] pickle) =>
        Assert.Contains(reason, Assert.Throws<PickleException>(() => Unpickler.Read(pickle, "x.bin")).Message, StringComparison.Ordinal);

    [Fact]
    public void SharedAndCyclicValuesCostNothing()
    {
        // Thirty levels of three references to the level before: 3^30 values if anybody counted them; then a dict that holds itself.
        var bomb = new PickleBuilder().Proto().Op("}q").Raw(0);
        for (byte level = 0; level < 30; level++)
        {
            bomb.Op("h").Raw(level).Op("h").Raw(level).Op("h").Raw(level).Raw(0x87).Op("q").Raw((byte)(level + 1));
        }

        Assert.Contains("values left over", Refusal(bomb.Op(".")), StringComparison.Ordinal);
        Assert.Contains("'a' is not a tensor", Refusal(new PickleBuilder().Proto().Op("}q").Raw(0).Text("a").Op("h").Raw(0).Op("s.")),
            StringComparison.Ordinal);
    }

    [Fact]
    public void EndlessPicklesEnd()
    {
        // Nothing but PROTO 2.
        var pickle = new byte[1 << 25];
        MemoryMarshal.Cast<byte, ushort>(pickle.AsSpan()).Fill(0x0280);
        Assert.Contains("opcodes", Assert.Throws<PickleException>(() => Unpickler.Read(pickle, "x.bin")).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void AMemoHasALimit()
    {
        // MEMOIZE, again and again.
        var pickle = new byte[(1 << 22) + 100];
        pickle.AsSpan().Fill(0x94);
        (pickle[0], pickle[1], pickle[2]) = (0x80, 2, (byte)'}');
        var error = Assert.Throws<PickleException>(() => Unpickler.Read(pickle, "x.bin"));
        Assert.Contains("values into its memo", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void EveryTruncationAndChangeIsReadOrRefused()
    {
        var pickle = Tensor(Tensor(new PickleBuilder().Proto().Op("}(").Text("a")).Text("b")).Op("u.").Bytes;
        for (var length = 0; length < pickle.Length; length++)
        {
            Assert.Throws<PickleException>(() => Unpickler.Read(pickle[..length], "x.bin"));
        }

        Gen.Select(Gen.Int[0, pickle.Length - 1], Gen.Byte).Array[1, 8].Sample(changes =>
        {
            var changed = pickle.ToArray();
            foreach (var (at, value) in changes)
            {
                changed[at] = value;
            }

            try
            {
                Assert.All(Unpickler.Read(changed, "x.bin"), t => Assert.All(t.Tensor.Shape, d => Assert.True(d >= 0)));
            }
            catch (PickleException)
            {
            }
        });
    }

    [Fact]
    public void RandomOpcodesNeverDoAnythingElseThanFail() =>
        Gen.Select(Gen.Char["}(tsuqhrjRQb)NKMX.c"].Array[0, 60], Gen.Byte.Array[0, 3]).Array[0, 8].Sample(parts =>
    {
        try
        {
            Unpickler.Read([.. parts.SelectMany(p => p.Item1.Select(c => (byte)c).Concat(p.Item2))], "x.bin");
        }
        catch (PickleException)
        {
        }
    });

    private static string Refusal(PickleBuilder pickle) =>
        Assert.Throws<PickleException>(() => Unpickler.Read(pickle.Bytes, "x.bin")).Message;
}
