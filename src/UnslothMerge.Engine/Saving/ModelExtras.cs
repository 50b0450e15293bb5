using System.Security.Cryptography;
using UnslothMerge.Tokenizers;

namespace UnslothMerge.Saving;

/// <summary>What the user adds to a saved model beside its weights.</summary>
internal sealed record ExtrasOptions
{
    /// <summary>A directory whose tokenizer and processor are saved, instead of the adapter's or the base's.</summary>
    public string? Tokenizer { get; init; }

    /// <summary>Tags for the card, beside the usual ones.</summary>
    public IReadOnlyList<string> Tags { get; init; } = [];

    /// <summary>Datasets for the card.</summary>
    public IReadOnlyList<string> Datasets { get; init; } = [];
}

/// <summary>All files of a saved model but its weights. They are read and made before the first weight is written, so that what is wrong
/// with them shows in time.</summary>
internal sealed class ModelExtras
{
    private readonly Dictionary<string, string> _copied;
    private readonly Dictionary<string, string> _written = [];
    private readonly List<MergeWarning> _warnings = [];
    private Task<string>? _record;

    private ModelExtras(IReadOnlyDictionary<string, string> copied)
    {
        CarriedFiles.RequireReadable(copied);
        _copied = new Dictionary<string, string>(copied);
    }

    /// <summary>The files that are copied: relative path → file.</summary>
    public IReadOnlyDictionary<string, string> Copied => _copied;

    /// <summary>The files that will be written: name → text; null for the record, which names the hashes of the adapters.</summary>
    public IEnumerable<(string Name, string? Text)> Planned() =>
        [.. _written.Where(f => f.Key != MergeRecord.FileName).Select(f => (f.Key, f.Value)),
            .. _record is null ? Array.Empty<(string, string?)>() : [(MergeRecord.FileName, null)]];

    /// <summary>The files that are written: name → text. Waits until the adapters have been hashed.</summary>
    public IReadOnlyDictionary<string, string> Written()
    {
        if (_record is not null)
        {
            _written[MergeRecord.FileName] = _record.GetAwaiter().GetResult();
        }

        return _written;
    }

    /// <summary>The SHA-256 of every file, by name.</summary>
    public IEnumerable<KeyValuePair<string, string>> Hashes()
    {
        foreach (var (name, text) in Written())
        {
            yield return KeyValuePair.Create(name, Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(text))));
        }

        foreach (var (name, path) in _copied)
        {
            using var file = new FileStream(RegularFile.Open(path), FileAccess.Read);
            yield return KeyValuePair.Create(name, Convert.ToHexStringLower(SHA256.HashData(file)));
        }
    }

    /// <summary>What the user should know.</summary>
    public IReadOnlyList<MergeWarning> Warnings => _warnings;

    /// <summary>Makes those of a merged model ready.</summary>
    public static ModelExtras For(WritePlan plan, Destination destination, string method, ExtrasOptions options)
    {
        var @base = plan.Merge.Base.Path;
        var adapters = plan.Merge.Steps.Select(s => s.Adapter.Path).ToList();
        var extras = new ModelExtras(CarriedFiles.ForModel(@base, adapters, options.Tokenizer));
        var quantization = plan.Merge.Base.Config.Quantization;
        foreach (var file in ModelFiles.Quantization.Where(f =>
            quantization is not null && JsonNode.DeepEquals(plan.Config.Quantization, quantization) && File.Exists(Path.Combine(@base, f))))
        {
            extras._copied[file] = Path.Combine(@base, file);
        }

        string[] carried = [.. extras._copied.Values];
        var configs = new Dictionary<string, JsonObject> { [TokenIds.ModelConfigName] = plan.Config.ToJson() };
        if (extras._copied.TryGetValue(TokenIds.GenerationConfigName, out var path))
        {
            configs[TokenIds.GenerationConfigName] = JsonFile.Read(path, MergeError.InvalidModel);
        }

        foreach (var name in extras.CheckTokenizer(plan.Merge, configs).Prepend(TokenIds.ModelConfigName).Distinct())
        {
            extras._copied.Remove(name);
            extras._written[name] = JsonFile.Text(configs[name]);
        }

        extras.FitTemplates(CarriedFiles.Precedence(@base, adapters, options.Tokenizer));
        extras.NameCode();
        extras._record = Task.Run(() =>
        {
            KnownHashes.Require(plan.Merge, carried);
            return MergeRecord.Text(plan, method);
        });
        var card = destination.DirectoryOf(ModelCard.FileName);
        extras._written[ModelCard.FileName] = ModelCard.Merged(plan, card, method, options, extras._warnings);
        return extras;
    }

    /// <summary>Makes those of an adapter ready that is saved by itself.</summary>
    public static ModelExtras ForAdapter(MergePlan plan, Destination destination, ExtrasOptions options)
    {
        AdapterSaver.RequireOneAdapter(plan);
        var extras = new ModelExtras(CarriedFiles.Tokenizer(plan.Base.Path, [plan.Steps[0].Adapter.Path], options.Tokenizer));
        _ = extras.CheckTokenizer(plan, new Dictionary<string, JsonObject>());
        extras.FitTemplates(CarriedFiles.Precedence(plan.Base.Path, [plan.Steps[0].Adapter.Path], options.Tokenizer));
        var card = destination.DirectoryOf(ModelCard.FileName);
        extras._written[ModelCard.FileName] = ModelCard.Adapter(plan, card, options, extras._warnings);
        return extras;
    }

    /// <summary>Writes them into a directory.</summary>
    public void Write(string directory, IDisk disk)
    {
        CarriedFiles.Copy(_copied, directory, disk);
        foreach (var (name, text) in Written())
        {
            disk.WriteText(Path.Combine(directory, name), text);
        }
    }

    // Whoever loads the model with trust_remote_code runs what somebody else has put there.
    private void NameCode()
    {
        if (_copied.Keys.Where(f => f.EndsWith(".py", StringComparison.Ordinal)).ToList() is { Count: > 0 } code)
        {
            _warnings.Add(new MergeWarning(
                MergeWarningId.RemoteCode,
                $"The saved model has code of its own, copied as it is: {string.Join(", ", code)}. Read it before you load the model with "
                + "trust_remote_code."));
        }
    }

    private void FitTemplates(IEnumerable<string> directories)
    {
        foreach (var (name, text) in ChatTemplates.Written(_copied, directories).ToList())
        {
            _copied.Remove(name);
            _written[name] = text;
        }
    }

    // Gives the configs that had to be changed.
    private IEnumerable<string> CheckTokenizer(MergePlan merge, Dictionary<string, JsonObject> configs)
    {
        if (ModelTokenizer.Read(_copied) is not { } tokenizer)
        {
            return [];
        }

        var embedding = TensorNames.TextEmbedding(merge.Tensors.Select(t => t.Name));
        var rows = merge.Tensors.FirstOrDefault(t => t.Name == embedding)?.Shape[0];
        var own = Path.GetDirectoryName(tokenizer.Path)!;
        var isBases = own == merge.Base.Path;
        var changes = isBases ? [] : TokenIds.Align(tokenizer, configs, rows);
        _warnings.AddRange(changes.Select(c => new MergeWarning(MergeWarningId.TokenIds, c.Note)));
        _warnings.AddRange(
            TokenIds.Problems(tokenizer, configs, rows).Select(p => new MergeWarning(MergeWarningId.Tokenizer, p)));
        if (!isBases && !tokenizer.HasChatTemplate && ModelTokenizer.HasTemplate(ModelFiles.TokenizerPaths(merge.Base.Path)))
        {
            _warnings.Add(new MergeWarning(
                MergeWarningId.NoChatTemplate,
                $"The tokenizer of '{own}' has no chat template, so the saved one has none. The base has one: -Tokenizer " +
                $"'{merge.Base.Path}' saves its tokenizer instead."));
        }

        if (CarriedFiles.NotSaved(merge.Base.Path, _copied).ToList() is { Count: > 0 } older)
        {
            _warnings.Add(new MergeWarning(
                MergeWarningId.FilesNotSaved,
                $"{string.Join(", ", older)} of the base {(older.Count == 1 ? "is" : "are")} not saved: the tokenizer of '{own}' has "
                + "another vocabulary. Readers that need them must be given that tokenizer in their form."));
        }

        return changes.Select(c => c.File);
    }
}
