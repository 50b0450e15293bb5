namespace UnslothMerge.Saving;

/// <summary>Gives a complete model the destination's name, in place of what is there. On Linux both names are exchanged in one step.
/// Elsewhere, and where the destination is a mount point, it takes several: what is to be moved is noted before, so that the next save can
/// undo moves that a killed process left half done.</summary>
internal sealed class ModelSwap(IDisk disk, string staging, string destination, bool inside)
{
    public const string ModelName = "model";
    public const string OldName = "old";
    public const string NoteName = "swap.json";

    private readonly string _model = Path.Combine(staging, ModelName);
    private readonly string _old = Path.Combine(staging, OldName);
    private readonly string _note = Path.Combine(staging, NoteName);
    private bool _exchanged;
    private bool _moved;

    /// <summary>True if a swap was begun and neither finished nor undone.</summary>
    public bool IsHalfDone => File.Exists(_note);

    /// <summary>What the destination holds beside the staging directory and what belongs to the file system.</summary>
    public static IEnumerable<string> Entries(string destination, string staging) =>
        DiskExtensions.Entries(destination).Where(e => e != staging && Path.GetFileName(e) != "lost+found");

    /// <summary>Moves the model to the destination, and what was there into the staging directory.</summary>
    public void Do(bool sync)
    {
        if (!inside && !Directory.Exists(destination))
        {
            disk.Move(_model, destination);
            _moved = true;
        }
        else if (!inside && disk.TryExchange(_model, destination))
        {
            _exchanged = true;
        }
        else
        {
            DoInSteps(sync);
        }

        if (sync)
        {
            disk.FlushDirectory(inside ? destination : Path.GetDirectoryName(destination)!);
            disk.FlushDirectory(staging);
        }

        if (IsHalfDone)
        {
            DeleteNote(sync);
        }
    }

    /// <summary>Puts everything back where it was.</summary>
    public void Undo()
    {
        if (_moved || _exchanged)
        {
            _ = _moved ? Move(destination, _model) : disk.TryExchange(_model, destination);
            (_moved, _exchanged) = (false, false);
        }

        if (IsHalfDone)
        {
            UndoSteps();
            DeleteNote(sync: true);
        }
    }

    /// <summary>Deletes a model that was replaced.</summary>
    public void DeleteOld() => disk.DeleteIfThere(_old);

    private void DeleteNote(bool sync)
    {
        disk.DeleteFile(_note);
        if (sync)
        {
            disk.FlushDirectory(staging);
        }
    }

    private void DoInSteps(bool sync)
    {
        // Either way of moving leaves the model whole in the staging directory, or the old one.
        var note = new JsonObject
        {
            ["old"] = inside ? Names(Entries(destination, staging)) : null,
            ["new"] = inside ? Names(DiskExtensions.Entries(_model)) : null,
        };
        disk.ReplaceText(_note, note.ToJsonString(), sync: true);
        if (!inside)
        {
            disk.Move(destination, _old);
            disk.Move(_model, destination);
            return;
        }

        disk.CreateTree(_old);
        MoveAll(note["old"]!, destination, _old);
        if (sync)
        {
            // The new files must not reach the disk before the old ones have left.
            disk.FlushDirectory(_old);
            disk.FlushDirectory(destination);
        }

        MoveAll(note["new"]!, _model, destination);
        if (sync)
        {
            disk.FlushDirectory(_model);
        }

        static JsonArray Names(IEnumerable<string> paths) => [.. paths.Select(p => (JsonNode?)Path.GetFileName(p))];
    }

    // A name that is still in the staging directory has not been moved.
    private void UndoSteps()
    {
        var (old, made) = ReadNote();
        if (old is null || made is null)
        {
            if (!Path.Exists(_model) && Path.Exists(destination))
            {
                disk.Move(destination, _model);
            }

            if (Path.Exists(_old))
            {
                disk.Move(_old, destination);
            }

            disk.FlushDirectory(Path.GetDirectoryName(destination)!);
            return;
        }

        disk.CreateTree(_model);
        foreach (var name in made.Where(
            n => !Path.Exists(Path.Combine(_model, n)) && Path.Exists(Path.Combine(destination, n))))
        {
            disk.Move(Path.Combine(destination, name), Path.Combine(_model, name));
        }

        disk.FlushDirectory(_model);
        disk.FlushDirectory(destination);

        foreach (var name in old.Where(n => Path.Exists(Path.Combine(_old, n))))
        {
            disk.Move(Path.Combine(_old, name), Path.Combine(destination, name));
        }

        disk.FlushDirectory(destination);
    }

    // Names only: what a note says must not lead elsewhere.
    private (IReadOnlyList<string>? Old, IReadOnlyList<string>? New) ReadNote()
    {
        try
        {
            return JsonNode.Parse(RegularFile.ReadText(_note)) is JsonObject note ? (Names("old"), Names("new"))
                : throw new JsonException("it is no object.");

            IReadOnlyList<string>? Names(string key) => note[key] is null ? null
                : [.. note[key]!.AsArray().Select(n => (string?)n is { Length: > 0 } name && Path.GetFileName(name) == name
                    && name is not ("." or "..") ? name : throw new JsonException($"'{n}' is no name."))];
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException or ArgumentException
            or IOException or UnauthorizedAccessException)
        {
            throw new MergeException(MergeError.InvalidDestination, $"'{_note}' cannot be read: {e.Message}", _note,
                $"Look at '{staging}' and '{destination}': one of them has the previous model. Then delete '{_note}'.", e);
        }
    }

    private void MoveAll(JsonNode names, string from, string to)
    {
        foreach (var name in names.AsArray().Select(n => (string)n!))
        {
            disk.Move(Path.Combine(from, name), Path.Combine(to, name));
        }
    }

    private bool Move(string from, string to)
    {
        disk.Move(from, to);
        return true;
    }
}
