namespace UnslothMerge.Saving;

/// <summary>What a save that does not wait for the disk notes in merge.json: the length of each other file. A loss of power soon after may
/// leave those under their names, but empty, short, or full of zeros, and merge.json as well.</summary>
internal static class UnsyncedFiles
{
    // Their last tensors may be zeros.
    private static readonly string[] Weights = [".safetensors", ".bin"];

    // The record has no length before the note is in it, and the card's author may make that shorter.
    private static readonly string[] OwnTexts = [MergeRecord.FileName, ModelCard.FileName];

    /// <summary>Adds the note to the record of a model that is complete otherwise.</summary>
    public static void Note(IDisk disk, string directory)
    {
        var path = Path.Combine(directory, MergeRecord.FileName);
        disk.ReplaceText(path, Text(RegularFile.ReadText(path), directory), sync: false);
    }

    /// <summary>A record with the note.</summary>
    public static string Text(string record, string directory)
    {
        var json = JsonFile.OfText(record);
        json[MergeRecord.UnsyncedKey] = new JsonObject(ModelFiles.All(directory).Where(f => !OwnTexts.Contains(f))
            .Select(f => KeyValuePair.Create(f, (JsonNode?)new FileInfo(Path.Combine(directory, f)).Length)));
        return JsonFile.Text(json);
    }

    /// <summary>What a loss of power has left of such a model's files: one text for each that is not as it was written. Null if a model
    /// was saved otherwise, as far as its record can be read.</summary>
    public static IReadOnlyList<string>? Lost(string directory)
    {
        IReadOnlyList<KeyValuePair<string, long>>? lengths = null;
        if ((Trouble(directory, MergeRecord.FileName, 0) ?? Unreadable(directory, out lengths)) is { } record)
        {
            return [record, .. ModelFiles.All(directory).Where(f => f != MergeRecord.FileName && !f.StartsWith('.'))
                .Select(f => Trouble(directory, f, 0)).OfType<string>()];
        }

        return lengths is null ? null : [.. lengths.Append(KeyValuePair.Create(ModelCard.FileName, 0L))
            .Select(f => Trouble(directory, f.Key, f.Value)).OfType<string>()];
    }

    private static string? Unreadable(string directory, out IReadOnlyList<KeyValuePair<string, long>>? lengths)
    {
        lengths = null;
        try
        {
            if (Path.Combine(directory, MergeRecord.FileName) is var path && File.Exists(path)
                && JsonFile.Read(path, MergeError.InvalidModel)[MergeRecord.UnsyncedKey] is JsonObject note)
            {
                lengths = [.. note.Where(f => IsWithin(f.Key) && note.Number(f.Key) is >= 0 and < long.MaxValue)
                    .Select(f => KeyValuePair.Create(f.Key, (long)note.Number(f.Key)!))];
            }

            return null;
        }
        catch (MergeException)
        {
            return $"{MergeRecord.FileName} cannot be read";
        }
    }

    // A record may have come from elsewhere.
    private static bool IsWithin(string name) => name.Length > 0 && !Path.IsPathRooted(name) && !name.Split('/', '\\').Contains("..");

    private static string? Trouble(string directory, string name, long length)
    {
        var path = Path.Combine(directory, name);
        if (FileStatus.Of(path) is not { Kind: FileKind.Regular } status)
        {
            return length > 0 ? $"{name} is missing" : null;
        }

        return status.Length == 0 && (length > 0 || !name.EndsWith(".py", StringComparison.Ordinal)) ? $"{name} is empty"
            : status.Length < length ? $"{name} has {status.Length} of {length} bytes"
            : ZeroedFile.Begins(path) || (!Weights.Contains(Path.GetExtension(path)) && ZeroedFile.Ends(path)) ? $"{name} holds zeros"
            : null;
    }
}
