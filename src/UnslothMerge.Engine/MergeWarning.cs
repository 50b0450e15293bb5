namespace UnslothMerge;

/// <summary>The stable ids of warnings. docs/errors.md lists them for users.</summary>
internal enum MergeWarningId
{
    /// <summary>The base is perhaps not the model that the adapter was trained on.</summary>
    OtherBase,

    /// <summary>The adapter was trained in a way for which only a certain base or format gives the same model.</summary>
    TrainedOtherwise,

    /// <summary>Keys of rank_pattern or alpha_pattern match no module.</summary>
    UnusedPattern,

    /// <summary>The adapter's config has options that are not known.</summary>
    UnknownOption,

    /// <summary>Matrices of the adapter hold zeros only.</summary>
    ZeroFactor,

    /// <summary>The adapter does not say how its experts are arranged.</summary>
    ExpertLayout,

    /// <summary>PEFT adds a delta twice, and so does the merge.</summary>
    AddedTwice,

    /// <summary>The merged model does not have a tensor that the adapter changes.</summary>
    NotNeeded,

    /// <summary>Embedding and head stay tied although one of them was changed.</summary>
    StaysTied,

    /// <summary>Embedding and head are written as two tensors.</summary>
    Untied,

    /// <summary>A model card cannot be read.</summary>
    UnreadableCard,

    /// <summary>Tokenizer, configs and embedding do not agree.</summary>
    Tokenizer,

    /// <summary>Ids of special tokens in a config now follow the tokenizer.</summary>
    TokenIds,

    /// <summary>The saved tokenizer has no chat template, though the base's has one.</summary>
    NoChatTemplate,

    /// <summary>Files of the base's tokenizer are not saved.</summary>
    FilesNotSaved,

    /// <summary>The saved model has code of its own.</summary>
    RemoteCode,

    /// <summary>Experts stay in 16 bits.</summary>
    ExpertsNotQuantized,

    /// <summary>Quantizing lost accuracy.</summary>
    QuantizationError,

    /// <summary>Quantizing lost most of what the adapters change.</summary>
    DeltaLost,

    /// <summary>The largest size of a shard is so small that a unit seems to be missing.</summary>
    SmallShards,

    /// <summary>A save was interrupted: what is taken over, kept or removed.</summary>
    InterruptedSave,

    /// <summary>The model that is replaced was saved with -NoSync, and a loss of power left its files empty, short or zeroed.</summary>
    LostFiles,

    /// <summary>No input has a hash that is known.</summary>
    NothingVerified,
}

/// <summary>What the caller should know, though it stops nothing.</summary>
internal sealed record MergeWarning(MergeWarningId Id, string Text)
{
    /// <summary>The warning, unless there is nothing to say.</summary>
    public static MergeWarning? Of(MergeWarningId id, string? text) => text is null ? null : new MergeWarning(id, text);

    public override string ToString() => $"{Text} ({Id})";
}
