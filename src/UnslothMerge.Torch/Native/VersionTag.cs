namespace UnslothMerge.Torch.Native;

/// <summary>Lets TorchSharp's Linux binary load where libstdc++ is older than the one it was linked with (Debian 12, Ubuntu 22.04, RHEL 9).
/// It requires one newer symbol version, whose only function is never called. A version that is marked as weak may be missing. Source: the
/// ELF gABI and the LSB's symbol versioning (.gnu.version_r, VER_FLG_WEAK).</summary>
internal static class VersionTag
{
    /// <summary>The version that is required but not used.</summary>
    public const string Name = "GLIBCXX_3.4.32";

    private const uint NeededVersions = 0x6FFFFFFE;
    private const ushort Weak = 2;

    /// <summary>A copy in the user's cache that loads here, if TorchSharp's binary itself does not; null where none is needed.</summary>
    public static string? Remedy(string path)
    {
        // libtorch has been loaded, and with it the libstdc++ that the process uses.
        var library = File.ReadLines("/proc/self/maps").FirstOrDefault(l => l.Contains("/libstdc++.so", StringComparison.Ordinal));
        if (library is null
            || File.ReadAllBytes(library[library.IndexOf('/', StringComparison.Ordinal)..]).AsSpan()
            .IndexOf(Encoding.ASCII.GetBytes($"{Name}\0")) >= 0)
        {
            return null;
        }

        var image = File.ReadAllBytes(path);
        return MarkWeak(image, Name) ? Cached(Path.GetFileName(path), image) : null;
    }

    /// <summary>Marks a version that a 64-bit little-endian ELF file needs as weak, in place; false if the file does not need it, or has it
    /// marked already.</summary>
    public static bool MarkWeak(Span<byte> image, string version)
    {
        if (image.Length < 64 || !image[..6].SequenceEqual("\u007fELF\u0002\u0001"u8))
        {
            throw new InvalidDataException("This is not a 64-bit little-endian ELF file.");
        }

        var sections = (int)BinaryPrimitives.ReadInt64LittleEndian(image[0x28..]);
        var size = BinaryPrimitives.ReadUInt16LittleEndian(image[0x3A..]);
        var count = BinaryPrimitives.ReadUInt16LittleEndian(image[0x3C..]);
        for (var i = 0; i < count; i++)
        {
            var section = image[(sections + (i * size))..];
            if (BinaryPrimitives.ReadUInt32LittleEndian(section[4..]) == NeededVersions)
            {
                var names = image[(sections + ((int)BinaryPrimitives.ReadUInt32LittleEndian(section[0x28..]) * size))..];
                return MarkWeak(image, Offset(section), Offset(names), version);
            }
        }

        return false;

        static int Offset(ReadOnlySpan<byte> section) => (int)BinaryPrimitives.ReadInt64LittleEndian(section[0x18..]);
    }

    // A list of libraries, each with a list of its needed versions; every entry holds the offset of the next.
    private static bool MarkWeak(Span<byte> image, int need, int names, string version)
    {
        var changed = false;
        for (var next = -1; next != 0; need += next)
        {
            var library = image[need..];
            next = (int)BinaryPrimitives.ReadUInt32LittleEndian(library[12..]);
            var entry = need + (int)BinaryPrimitives.ReadUInt32LittleEndian(library[8..]);
            for (int step = -1; step != 0; entry += step)
            {
                var item = image[entry..];
                step = (int)BinaryPrimitives.ReadUInt32LittleEndian(item[12..]);
                var name = image[(names + (int)BinaryPrimitives.ReadUInt32LittleEndian(item[8..]))..];
                var flags = BinaryPrimitives.ReadUInt16LittleEndian(item[4..]);
                if (name.StartsWith(Encoding.ASCII.GetBytes($"{version}\0")) && (flags & Weak) == 0)
                {
                    BinaryPrimitives.WriteUInt16LittleEndian(item[4..], (ushort)(flags | Weak));
                    changed = true;
                }
            }
        }

        return changed;
    }

    private static string Cached(string name, byte[] image)
    {
        var cache = Environment.GetEnvironmentVariable("XDG_CACHE_HOME") is { Length: > 0 } given
            ? given : Path.Combine(Environment.GetFolderPath(Environment.SpecialFolder.UserProfile), ".cache");
        var directory = Directory.CreateDirectory(Path.Combine(cache, "unslothmerge")).FullName;
        var path = Path.Combine(directory, name);
        if (!File.Exists(path) || !File.ReadAllBytes(path).AsSpan().SequenceEqual(image))
        {
            // Atomic, as another process may write it at the same time.
            var temporary = Path.Combine(directory, Path.GetRandomFileName());
            File.WriteAllBytes(temporary, image);
            File.Move(temporary, path, overwrite: true);
        }

        return path;
    }
}
