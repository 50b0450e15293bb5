namespace UnslothMerge.Tests.Verification;

/// <summary>Damages a saved model, each way in which one can be.</summary>
internal static class Damage
{
    /// <summary>Flips bits of one byte of a tensor.</summary>
    public static void Flip(string directory, string tensor, long place, byte bits = 0xff) =>
        Change(directory, tensor, (_, bytes) => bytes[(int)place] ^= bits);

    /// <summary>Changes a tensor's values, BF16 or F32.</summary>
    public static void Values(string directory, string tensor, Func<float[], float[]> change) => Change(directory, tensor, (type, bytes) =>
    {
        if (type == TensorType.F32)
        {
            change(MemoryMarshal.Cast<byte, float>(bytes.AsSpan()).ToArray()).AsSpan()
                .CopyTo(MemoryMarshal.Cast<byte, float>(bytes.AsSpan()));
            return;
        }

        var stored = MemoryMarshal.Cast<byte, ushort>(bytes.AsSpan());
        var values = change(Array.ConvertAll(stored.ToArray(), v => BitConverter.UInt32BitsToSingle((uint)v << 16)));
        for (var i = 0; i < values.Length; i++)
        {
            // To nearest even, unless it is NaN or Inf.
            var raw = BitConverter.SingleToUInt32Bits(values[i]);
            stored[i] = (ushort)((raw + (float.IsFinite(values[i]) ? 0x7fff + ((raw >> 16) & 1) : 0)) >> 16);
        }
    });

    /// <summary>A tensor's values, BF16 or F32.</summary>
    public static float[] Read(string directory, string tensor)
    {
        var stored = Checkpoint.Open(directory).Find(tensor)!;
        using var files = new UnslothMerge.IO.InputFiles();
        return Array.ConvertAll(Goldens.PassRule.Decode(stored.Type, files.ReadAll(stored)), v => (float)v);
    }

    /// <summary>Edits a JSON file.</summary>
    public static void Json(string directory, string file, Action<JsonObject> edit)
    {
        var path = Path.Combine(directory, file);
        var json = (JsonObject)JsonNode.Parse(File.ReadAllText(path))!;
        edit(json);
        File.WriteAllText(path, json.ToJsonString());
    }

    /// <summary>Writes the weights of a one-file model anew.</summary>
    public static void Rewrite(string directory, Func<TinyTensor, TinyTensor?> change)
    {
        var path = Path.Combine(directory, "model.safetensors");
        TinyTensor[] tensors;
        using (var files = new UnslothMerge.IO.InputFiles())
        {
            tensors = [.. SafetensorsFile.Open(path).Tensors.Select(t =>
                change(new TinyTensor(t.Name, t.Type, [.. t.Shape], files.ReadAll(t)))).OfType<TinyTensor>()];
        }

        TinyModel.WriteFile(path, tensors);
    }

    private static void Change(string directory, string tensor, Action<TensorType, byte[]> change)
    {
        var stored = Checkpoint.Open(directory).Find(tensor)!;
        using var stream = File.Open(stored.File.Path, FileMode.Open, FileAccess.ReadWrite);
        var bytes = new byte[stored.Length];
        stream.Position = stored.Offset;
        stream.ReadExactly(bytes);
        change(stored.Type, bytes);
        stream.Position = stored.Offset;
        stream.Write(bytes);
    }
}
