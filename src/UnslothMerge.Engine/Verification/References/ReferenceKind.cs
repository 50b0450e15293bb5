using UnslothMerge.Verification.Kinds;

namespace UnslothMerge.Verification.References;

/// <summary>The parameter that a reference is for, as its layer sees it.</summary>
/// <param name="Outputs">The outputs of the layer: the rows.</param>
/// <param name="Inputs">The inputs of the layer times its kernel: the columns; 1 for a bias.</param>
/// <param name="IsBias">True for the bias.</param>
/// <param name="Shape">The shape as stored.</param>
/// <param name="Factor">The caller's factor on what is added.</param>
/// <param name="Weight">The layer's weight in the base, [outputs, inputs]: for the few biases that depend on it.</param>
internal sealed record ReferenceTarget(int Outputs, int Inputs, bool IsBias, IReadOnlyList<long> Shape, double Factor, Func<MathNet.Numerics.LinearAlgebra.Matrix<double>> Weight);

/// <summary>How one kind of adapter changes a layer, by its published formula.</summary>
internal abstract class ReferenceKind
{
    /// <summary>One row per <c>peft_type</c>. LoRA has references of its own, one per variant.</summary>
    public static IReadOnlyDictionary<string, ReferenceKind> Table { get; } = new Dictionary<string, ReferenceKind>(StringComparer.Ordinal)
    {
        ["ADALORA"] = new AdaLoraReference(),
        ["BEFT"] = new BeftReference(),
        ["BOFT"] = new BoftReference(),
        ["C3A"] = new C3AReference(),
        ["DEFT"] = new DeftReference(),
        ["DELORA"] = new DeLoraReference(),
        ["FOURIERFT"] = new FourierFtReference(),
        ["FROD"] = new FrodReference(),
        ["GLORA"] = new GloraReference(),
        ["GRALORA"] = new GraLoraReference(),
        ["HIRA"] = new HiraReference(),
        ["HRA"] = new HraReference(),
        ["IA3"] = new Ia3Reference(),
        ["LOHA"] = new LoHaReference(),
        ["LOKR"] = new LoKrReference(),
        ["MISS"] = new MissReference(),
        ["OFT"] = new OftReference(),
        ["OSF"] = new OsfReference(),
        ["PEANUT"] = new PeanutReference(),
        ["PVERA"] = new VeraReference("pvera"),
        ["RANDLORA"] = new RandLoraReference(),
        ["ROAD"] = new RoadReference(),
        ["SHIRA"] = new ShiraReference(),
        ["SUPERTUNING"] = new SuperTuningReference(),
        ["TINYLORA"] = new TinyLoraReference(),
        ["UNILORA"] = new UniLoraReference(),
        ["VBLORA"] = new VbLoraReference(),
        ["VERA"] = new VeraReference("vera"),
        ["WAVEFT"] = new WaveFtReference(),
    };

    /// <summary>The outputs and inputs that the adapter's tensors tell: where the architecture is not known they say which way round the weight is stored.</summary>
    public virtual (long? Outputs, long? Inputs) Size(AdapterModule module) => (null, null);

    /// <summary>The reference for one parameter; null if there is none for what the adapter does.</summary>
    public abstract Reference? Of(AdapterModule module, ReferenceTarget target);
}
