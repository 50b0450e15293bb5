using UnslothMerge.Execution;

namespace UnslothMerge.Saving;

/// <summary>What a save takes over from an interrupted one, and what it leaves if it is interrupted itself. A model of one shard has
/// nothing to go on with.</summary>
internal sealed class ResumableSave
{
    private readonly StagingDirectory _staging;
    private readonly RunOptions _options;
    private readonly Lazy<SaveFingerprint> _fingerprint;
    private readonly ShardJournal? _journal;
    private readonly List<FinishedShard> _finished = [];
    private bool _resumed;

    public ResumableSave(ModelExtras extras, StagingDirectory staging, RunOptions options)
    {
        _staging = staging;
        _options = options;

        // Adapters are hashed beside the merge: they are not waited for before there is something to compare or to note.
        _fingerprint = new Lazy<SaveFingerprint>(() => SaveFingerprint.Of(
            Plan, JsonFile.OfText(extras.Written()[MergeRecord.FileName]), options.Device?.Device.Name ?? "cpu"));
        _journal = Plan.Shards.Length > 1 ? new ShardJournal(options.Disk, staging.Home, _fingerprint, options.Sync) : null;
    }

    private WritePlan Plan => _options.Plan.Write;

    /// <summary>Takes the shards that are finished; null if there is no use in them.</summary>
    public Action<FinishedShard>? Finished => _journal is null ? null : Add;

    /// <summary>Gives the shards that an interrupted save has finished, and removes everything else that it left.</summary>
    public IReadOnlyList<FinishedShard> Begin(CancellationToken cancellation)
    {
        var left = ShardJournal.FingerprintOf(_staging.Home);
        _resumed = !_options.Restart && _journal is not null && left is not null
            && left.Hash == _fingerprint.Value.Hash;
        if (_resumed)
        {
            _finished.AddRange(_journal!.Find(Plan, _options.Plan.Workers, cancellation));
            _staging.RemoveAllBut(Names);
            Note($"An earlier save was interrupted: {_finished.Count} of {Plan.Shards.Length} shards are taken over.");
            return [.. _finished];
        }

        if (!_staging.IsEmpty)
        {
            var why = left is null || _options.Restart ? "" : $": they differ in {string.Join(", ", left.Differences(_fingerprint.Value))}";
            Note($"What an interrupted save left in '{_staging.Home}' is removed{why}.");
        }

        _staging.Clear();
        return [];
    }

    /// <summary>Leaves what is finished to a later save, which an error of this one then mentions.</summary>
    public MergeException Interrupted(MergeException error)
    {
        if (!_resumed && _finished.Count == 0)
        {
            return error;
        }

        _staging.Keep(Names);
        var kept = $"{_finished.Count} of {Plan.Shards.Length} shards are finished and kept in '{_staging.Home}': the same "
            + "command goes on from there, and -Restart begins anew.";
        return new MergeException(error.Error, error.Message, error.Target, $"{error.Advice} {kept}", error.InnerException)
        {
            Details = error.Details,
        };
    }

    private IReadOnlySet<string> Names => _finished.Select(s => s.Name).ToHashSet(StringComparer.Ordinal);

    private void Note(string text) => _options.Note(new MergeWarning(MergeWarningId.InterruptedSave, text));

    private void Add(FinishedShard shard)
    {
        _journal!.Add(shard);
        _finished.Add(shard);
    }
}
