using MathNet.Numerics.LinearAlgebra;
using UnslothMerge.Verification.Kinds;

namespace UnslothMerge.Verification.References;

/// <summary>The parameter that a reference is for, as its layer sees it: rows are outputs, columns are inputs times the kernel (1 for a
/// bias). The shape is the stored one, the factor the caller's; the weight is the layer's in the base, [outputs, inputs], for the few
/// biases that depend on it.</summary>
internal sealed record ReferenceTarget(
    int Outputs, int Inputs, bool IsBias, IReadOnlyList<long> Shape, double Factor, Func<Matrix<double>> Weight)
{
    /// <summary>W + Δ.</summary>
    public Reference Add(RowFormula delta, bool all = false) => FormulaReference.Add(delta, Factor, all);

    /// <summary>W + left·right.</summary>
    public Reference AddProduct(Matrix<double> left, Matrix<double> right) => Add((rows, _) => left.Pick(rows) * right);

    /// <summary>W + Δ, entry by entry.</summary>
    public Reference AddEntries(Func<long, long, double> entry) => Add((rows, _) => Matrices.Make(rows, Inputs, entry));
}

/// <summary>How one kind of adapter changes a layer, by its published formula; null if there is none for what the adapter does. The size is
/// the layer's outputs and inputs, as far as the adapter's shapes give them: where the architecture is not known, they decide whether the
/// weight is stored transposed.</summary>
internal sealed record ReferenceKind(
    Func<AdapterModule, ReferenceTarget, Reference?> Of, Func<AdapterModule, (long? Outputs, long? Inputs)>? Size = null)
{
    /// <summary>One row per <c>peft_type</c>. LoRA has references of its own, one per variant.</summary>
    public static IReadOnlyDictionary<string, ReferenceKind> Table { get; } = new Dictionary<string, ReferenceKind>(StringComparer.Ordinal)
    {
        ["ADALORA"] = new(ProductFormulas.AdaLora, m => (m.Shape("lora_B")[0], m.Shape("lora_A")[1])),
        ["BEFT"] = new(EntryFormulas.Beft),
        ["BOFT"] = new(RotationFormulas.Boft, m => (m.Shape("boft_s").Count(), m.Shape("boft_R")[1] * m.Shape("boft_R")[2])),
        ["C3A"] = new(EntryFormulas.C3A),
        ["DEFT"] = new(MatrixFormulas.Deft, m => (m.Shape("deft_P")[0], m.Has("deft_R") ? m.Shape("deft_R")[1] : null)),
        ["DELORA"] = new(ProductFormulas.DeLora),
        ["FOURIERFT"] = new(SpectralFormulas.FourierFt),
        ["FROD"] = new(MatrixFormulas.Frod, m => (null, m.Shape("frod_lambda_l")[0])),
        ["GLORA"] = new(EntryFormulas.Glora),
        ["GRALORA"] = new(ProductFormulas.GraLora, ProductFormulas.GraLoraSize),
        ["HIRA"] = new(
            ProductFormulas.Hira,
            m => m.Has("hira_B") ? (m.Shape("hira_B")[0], m.Shape("hira_A").Count() / m.Shape("hira_A")[0]) : default),
        ["HRA"] = new(RotationFormulas.Hra, m => (null, m.Shape("hra_u")[0])),
        ["IA3"] = new(EntryFormulas.Ia3, EntryFormulas.Ia3Size),
        ["LOHA"] = new(ProductFormulas.LoHa),
        ["LOKR"] = new(ProductFormulas.LoKr),
        ["MISS"] = new(EntryFormulas.Miss),
        ["OFT"] = new(RotationFormulas.Oft, RotationFormulas.OftSize),
        ["OSF"] = new(MatrixFormulas.Osf, m => (m.Shape("osf_svd_params.U_low")[0], m.Shape("osf_svd_params.V_low")[1])),
        ["PEANUT"] = new(MatrixFormulas.Peanut, m => (m.Shape("peanut_B.weight")[0], null)),
        ["PVERA"] = new((m, t) => ProductFormulas.Vera(m, t, "pvera"), m => (m.Shape("pvera_lambda_b")[0], null)),
        ["RANDLORA"] = new(ProductFormulas.RandLora),
        ["ROAD"] = new(RotationFormulas.Road),
        ["SHIRA"] = new(EntryFormulas.Shira),
        ["SUPERTUNING"] = new(EntryFormulas.SuperTuning),
        ["TINYLORA"] = new(ProductFormulas.TinyLora, m => (m.Shape("tinylora_B")[0], m.Shape("tinylora_A")[1])),
        ["UNILORA"] = new(ProductFormulas.UniLora, m => (m.Shape("unilora_indices_B")[0], m.Shape("unilora_indices_A")[1])),
        ["VBLORA"] = new(VectorBankFormula.VbLora, VectorBankFormula.Size),
        ["VERA"] = new((m, t) => ProductFormulas.Vera(m, t, "vera"), m => (m.Shape("vera_lambda_b")[0], null)),
        ["WAVEFT"] = new(SpectralFormulas.WaveFt),
    };
}
