using UnslothMerge.Adapters.Numerics;
using UnslothMerge.Adapters.Terms;

namespace UnslothMerge.Adapters.Kinds;

/// <summary>PEANuT: a small network makes the delta out of the weight. With f = <c>act_fn</c>, A [r, out], B [out, r] and square encoders
/// and decoders: x = f(WᵀAᵀ); per encoder, x is kept and becomes f(x·Eᵀ); per decoder, x becomes f(x·Dᵀ) + what was kept last; W +
/// (x·Bᵀ)ᵀ·scaling. Source: arXiv 2410.01870; PEFT 0.21, <c>peanut</c>.</summary>
internal sealed class Peanut() : MatrixKind(
    "PEANuT", "PEANUT", [A, B, .. Enumerable.Range(0, MaxDepth).SelectMany(i => new[] { Encoder(i), Decoder(i) })])
{
    private const int MaxDepth = 16;
    private const string A = "peanut_A.weight";
    private const string B = "peanut_B.weight";

    protected override MatrixDelta Build(AdaptedModule module)
    {
        var (a, b) = (module.Numbers(A, 2), module.Numbers(B, 2));
        var (rank, outputs) = ((int)a.Shape[0], (int)a.Shape[1]);
        AdaptedModule.Require(b.Shape.SequenceEqual([outputs, rank]), $"{A} {a.Shape.Text()} and {B} {b.Shape.Text()} do not fit together");
        var name = module.Config.Json.String("act_fn") ?? "relu";
        var activation = Activations.Find(name) ?? throw new MisfitException(
            $"the act_fn '{name}' is not one of {string.Join(", ", Activations.Names)}");
        var depth = (int)module.Config.ValueOf(module.Name, "depth");
        AdaptedModule.Require(depth is >= 0 and <= MaxDepth, $"its depth is {depth}; at most {MaxDepth} can be merged");
        var encoders = Enumerable.Range(0, depth).Select(i => Square(module, Encoder(i), rank)).ToArray();
        var decoders = Enumerable.Range(0, depth).Select(i => Square(module, Decoder(i), rank)).ToArray();
        AdaptedModule.Require(
            module.Tensors.Keys.Count() == 2 + (2 * depth),
            $"its depth is {depth} in adapter_config.json, but it has {string.Join(", ", module.Tensors.Keys)}");
        var (_, inputs) = module.Features(transposed: false);
        module.RequireFit(outputs, inputs);
        return new MatrixDelta([a, b, .. encoders, .. decoders], from =>
        {
            var x = Apply(from.TimesWeight(from.Read(a), rank, transposed: false));
            var kept = new Stack<double[]>();
            foreach (var encoder in encoders)
            {
                kept.Push(x);
                x = Apply(Matrices.Multiply(from.Read(encoder), x, rank, rank, inputs));
            }

            foreach (var decoder in decoders)
            {
                x = Apply(Matrices.Multiply(from.Read(decoder), x, rank, rank, inputs));
                TensorPrimitives.Add(x, kept.Pop(), x);
            }

            return new ProductMatrix(from.Read(b), x, rank, inputs);
        })
        {
            Rank = rank,
            Scaling = module.Config.ValueOf(module.Name, "scaling"),
            Reach = DeltaReach.ReducingPass,
            ExtraBytes = (2L + depth) * rank * inputs * sizeof(double),
        };

        double[] Apply(double[] values) => Array.ConvertAll(values, v => activation(v));
    }

    private static string Encoder(int index) => $"peanut_encoders.{index}.weight";

    private static string Decoder(int index) => $"peanut_decoders.{index}.weight";

    private static StoredTensor Square(AdaptedModule module, string part, int rank)
    {
        var tensor = module.Numbers(part, 2);
        AdaptedModule.Require(
            tensor.Shape[0] == rank && tensor.Shape[1] == rank, $"{part} {tensor.Shape.Text()} should be [{rank}, {rank}]");
        return tensor;
    }
}
