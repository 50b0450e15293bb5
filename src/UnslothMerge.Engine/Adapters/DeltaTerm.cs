namespace UnslothMerge.Adapters;

/// <summary>What a delta must have seen before it can be applied to a row.</summary>
internal enum DeltaReach
{
    /// <summary>Nothing but the row itself.</summary>
    RowLocal,

    /// <summary>Every row once, for a sum or a threshold.</summary>
    ReducingPass,

    /// <summary>The whole tensor at once.</summary>
    WholeTensor,
}

/// <summary>How a change meets the changes that adapters given earlier make to the same tensor.</summary>
internal enum DeltaComposition
{
    /// <summary>Each is taken on the base's values, and they add.</summary>
    Sum,

    /// <summary>It adds, and rescales the result by what its adapter alone makes of the base's values.</summary>
    Rescaled,

    /// <summary>It cannot be combined with another.</summary>
    Alone,

    /// <summary>It changes what earlier ones of its kind made.</summary>
    After,

    /// <summary>It changes the base's values, and earlier ones of its kind change the result. So do changes of a layer's input: the first
    /// one sees it first.</summary>
    Before,
}

/// <summary>Some rows of a matrix, one after the other.</summary>
internal readonly record struct RowRange(long First, long Count)
{
    /// <summary>True if it has a row in common with others.</summary>
    public bool Overlaps(long first, long count) => First < first + count && first < First + Count;
}

/// <summary>A place in a target's matrix.</summary>
internal readonly record struct MatrixPlace(long Row, int Column);

/// <summary>A change that an adapter makes to a tensor. A term is part of a plan: immutable, with handles of the adapter's tensors instead
/// of their values. <see cref="Open"/> loads what a run needs of them, target by target.</summary>
internal abstract class DeltaTerm(string kind, IReadOnlyList<StoredTensor> inputs)
{
    /// <summary>The kind of adapter.</summary>
    public string Kind => kind;

    /// <summary>Every adapter tensor that is read.</summary>
    public IReadOnlyList<StoredTensor> Inputs => inputs;

    /// <summary>Those of them that are held in <see cref="InputFiles.Shared"/>, if there is room.</summary>
    public virtual IEnumerable<StoredTensor> SharedInputs => [];

    /// <summary>The rank of the delta, where it has one.</summary>
    public virtual int? Rank => null;

    /// <summary>The factor that the adapter itself puts before the delta.</summary>
    public virtual double Scaling => 1;

    /// <summary>True if the change is a sum that can be weighted; false for rotations, magnitudes and replacements.</summary>
    public virtual bool IsAdditive => true;

    /// <summary>How it meets the changes that other adapters make to the tensor.</summary>
    public virtual DeltaComposition Composition => IsAdditive ? DeltaComposition.Sum : DeltaComposition.Alone;

    /// <summary>True if it can be combined with another adapter's change of the same tensor: both are sums, or act one after the
    /// other.</summary>
    public virtual bool CombinesWith(DeltaTerm other) =>
        (Adds(Composition) && Adds(other.Composition))
        || (Composition is DeltaComposition.After or DeltaComposition.Before && other.Kind == Kind && other.Composition == Composition);

    /// <summary>What must be seen before a row can be changed.</summary>
    public virtual DeltaReach Reach => DeltaReach.RowLocal;

    /// <summary>The rows that it changes; null for all of them. Pieces that have none of them are spared the term.</summary>
    public virtual RowRange? Rows => null;

    /// <summary>Tiles begin at multiples of this many rows.</summary>
    public virtual int RowQuantum => 1;

    /// <summary>True if tiles must hold all columns of their rows.</summary>
    public virtual bool NeedsWholeRows => false;

    /// <summary>False if the delta does not depend on the weights: tiles may then come without them.</summary>
    public virtual bool ReadsWeights => true;

    /// <summary>The bytes held while the target is in work, shared by all workers.</summary>
    public abstract long ResidentBytes { get; }

    /// <summary>The bytes of so many rows: the length of the buffer that <see cref="DeltaReader.Read"/> fills; none if all that is needed
    /// is loaded when the term is opened.</summary>
    public virtual long BytesOf(int rows) => 0;

    /// <summary>True if it changes any of these rows.</summary>
    public bool Changes(long row, int rows) => Rows is not { } range || range.Overlaps(row, rows);

    /// <summary>Loads what is needed to apply the delta. What must have seen other rows first (see <see cref="Reach"/>) scans them
    /// here.</summary>
    public abstract DeltaReader Open(DeltaContext context);

    private static bool Adds(DeltaComposition composition) => composition is DeltaComposition.Sum or DeltaComposition.Rescaled;
}
