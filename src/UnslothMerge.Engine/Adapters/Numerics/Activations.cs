namespace UnslothMerge.Adapters.Numerics;

/// <summary>The activation functions that a config can name, in double. Source: transformers, <c>ACT2FN</c>.</summary>
internal static class Activations
{
    private static readonly Dictionary<string, Func<double, double>> Table = new(StringComparer.Ordinal)
    {
        ["gelu"] = Gelu,
        ["gelu_10"] = x => Math.Clamp(Gelu(x), -10, 10),
        ["gelu_accurate"] = GeluTanh,
        ["gelu_fast"] = GeluTanh,
        ["gelu_new"] = GeluTanh,
        ["gelu_python"] = Gelu,
        ["gelu_pytorch_tanh"] = GeluTanh,
        ["gelu_python_tanh"] = GeluTanh,
        ["hardswish"] = x => x * Math.Clamp(x + 3, 0, 6) / 6,
        ["laplace"] = x => 0.5 * (1 + Erf((x - 0.707107) / (0.282095 * Math.Sqrt(2)))),
        ["leaky_relu"] = x => x >= 0 ? x : 0.01 * x,
        ["linear"] = x => x,
        ["mish"] = x => x * Math.Tanh(x > 30 ? x : Math.Log(1 + Math.Exp(x))),
        ["prelu"] = x => x >= 0 ? x : 0.25 * x,
        ["quick_gelu"] = x => x * Sigmoid(1.702 * x),
        ["relu"] = x => Math.Max(x, 0),
        ["relu2"] = x => Math.Max(x, 0) * Math.Max(x, 0),
        ["relu6"] = x => Math.Clamp(x, 0, 6),
        ["sigmoid"] = Sigmoid,
        ["silu"] = x => x * Sigmoid(x),
        ["swish"] = x => x * Sigmoid(x),
        ["tanh"] = Math.Tanh,
    };

    /// <summary>The names that are known.</summary>
    public static IEnumerable<string> Names => Table.Keys;

    /// <summary>A function by its name, or null if it is not known.</summary>
    public static Func<double, double>? Find(string name) => Table.GetValueOrDefault(name);

    /// <summary>The error function erf(x), to the last digits of a double.</summary>
    public static double Erf(double x)
    {
        if (Math.Abs(x) > 6)
        {
            return Math.Sign(x);
        }

        // erf(x) = 2/√π·e^(−x²)·Σ 2ⁿ·x^(2n+1) / (1·3·…·(2n+1)): no term changes its sign, so nothing cancels.
        var (term, sum) = (x, x);
        for (var n = 1; Math.Abs(term) > 1e-18 * Math.Abs(sum); n++)
        {
            term *= 2 * x * x / ((2 * n) + 1);
            sum += term;
        }

        return 2 / Math.Sqrt(Math.PI) * Math.Exp(-x * x) * sum;
    }

    private static double Gelu(double x) => 0.5 * x * (1 + Erf(x / Math.Sqrt(2)));

    private static double GeluTanh(double x) => 0.5 * x * (1 + Math.Tanh(Math.Sqrt(2 / Math.PI) * (x + (0.044715 * x * x * x))));

    private static double Sigmoid(double x) => 1 / (1 + Math.Exp(-x));
}
