using System.Collections.Immutable;
using System.IO.Compression;
using System.Reflection.Metadata;
using System.Reflection.Metadata.Ecma335;
using System.Reflection.PortableExecutable;

namespace UnslothMerge.Tests.Fuzzing;

/// <summary>Damages a file as its kind can be damaged. The same random numbers give the same damage.</summary>
internal static class Mutations
{
    /// <summary>Texts that the engine looks for: keys, names of methods, endings of tensors' names.</summary>
    public static ImmutableArray<string> Known { get; } = ReadKnown();

    private static readonly string[] Lines =
    [
        "", "\0", "\uFEFF", "---", new('[', 100_000), new('{', 10_000), "a: &a [*a, *a]",
        "? - - -", "<<: *x", "!!binary =", "\t- x", "a b c",
        new('x', 70_000), "#version: 0.2", "IQ== 99999999999999999999", "IQ== -1", "99999999999", "key: !<tag:yaml.org,2002:int> x", "* *",
    ];

    /// <summary>A damaged copy of a file.</summary>
    public static byte[] Apply(string name, byte[] content, Random random)
    {
        var kind = Path.GetExtension(name);
        return random.Next(8) == 0 ? Bytes(content, random)
            : kind is ".json" ? JsonMutations.Apply(content, random)
            : kind is ".safetensors" ? SafetensorsMutations.Apply(content, random)
            : kind is ".bin" && content.AsSpan().StartsWith("PK"u8) && random.Next(4) > 0 ? Archive(content, random)
            : kind is ".md" or ".txt" or ".tiktoken" ? Text(content, random)
            : Bytes(content, random);
    }

    /// <summary>Some bytes are changed, removed, repeated or added.</summary>
    public static byte[] Bytes(byte[] content, Random random)
    {
        var bytes = content.ToList();
        for (var times = random.Next(1, 5); times > 0; times--)
        {
            var at = random.Next(bytes.Count + 1);
            var count = Math.Min(bytes.Count - at, 1 << random.Next(12));
            switch (random.Next(7))
            {
                case 0 or 1 when at < bytes.Count:
                    bytes[at] = (byte)random.Next(256);
                    break;
                case 2 when at < bytes.Count:
                    bytes[at] ^= (byte)(1 << random.Next(8));
                    break;
                case 3:
                    bytes.RemoveRange(at, count);
                    break;
                case 4:
                    bytes.InsertRange(at, bytes.GetRange(random.Next(bytes.Count - count + 1), count));
                    break;
                case 5:
                    bytes.RemoveRange(at, bytes.Count - at);
                    break;
                default:
                    bytes.InsertRange(at, random.NextBytes(random.Next(1, 16)));
                    break;
            }
        }

        return [.. bytes];
    }

    private static byte[] Text(byte[] content, Random random)
    {
        var lines = Encoding.UTF8.GetString(content).Split('\n').ToList();
        for (var times = random.Next(1, 5); times > 0; times--)
        {
            var (at, other) = (random.Next(lines.Count), random.Next(lines.Count));
            switch (random.Next(5))
            {
                case 0:
                    lines.Insert(at, random.Of(Lines));
                    break;
                case 1:
                    lines[at] = $"{lines[at]}{random.Of(Lines)}";
                    break;
                case 2:
                    (lines[at], lines[other]) = (lines[other], lines[at]);
                    break;
                case 3:
                    lines.Insert(at, lines[other]);
                    break;
                default:
                    lines[at] = Encoding.UTF8.GetString(Bytes(Encoding.UTF8.GetBytes(lines[at]), random));
                    break;
            }
        }

        return Encoding.UTF8.GetBytes(string.Join('\n', lines));
    }

    // An archive whose pickle, or another of its files, is damaged.
    private static byte[] Archive(byte[] content, Random random)
    {
        using var old = new ZipArchive(new MemoryStream(content));
        var pickle = old.Entries.Single(e => e.Name == "data.pkl");
        var damaged = random.Next(4) > 0 ? pickle : random.Of(old.Entries);
        using var stream = new MemoryStream();
        using (var zip = new ZipArchive(stream, ZipArchiveMode.Create))
        {
            foreach (var entry in old.Entries)
            {
                using var part = entry.Open();
                var bytes = new byte[entry.Length];
                part.ReadExactly(bytes);
                using var copy = zip.CreateEntry(entry.FullName, CompressionLevel.NoCompression).Open();
                copy.Write(entry == damaged ? Bytes(bytes, random) : bytes);
            }
        }

        return stream.ToArray();
    }

    private static ImmutableArray<string> ReadKnown()
    {
        using var image = new PEReader(File.OpenRead(typeof(MergeException).Assembly.Location));
        var metadata = image.GetMetadataReader();
        var texts = ImmutableArray.CreateBuilder<string>();
        for (var text = MetadataTokens.UserStringHandle(1); !text.IsNil; text = metadata.GetNextHandle(text))
        {
            if (metadata.GetUserString(text) is { Length: > 1 and < 40 } word && !word.Contains(' ', StringComparison.Ordinal))
            {
                texts.Add(word);
            }
        }

        return texts.ToImmutable();
    }
}

/// <summary>What mutations choose.</summary>
internal static class RandomChoices
{
    public static T Of<T>(this Random random, IReadOnlyList<T> choices) => choices[random.Next(choices.Count)];

    public static byte[] NextBytes(this Random random, int count)
    {
        var bytes = new byte[count];
        random.NextBytes(bytes);
        return bytes;
    }
}
