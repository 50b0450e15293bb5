using UnslothMerge.Adapters.Terms;

namespace UnslothMerge.Adapters.Kinds;

/// <summary>RoAd: pairs of outputs are rotated and scaled, those of the bias too. Source: RoAd (arXiv 2409.00119); PEFT 0.21,
/// <c>road.Linear</c>.</summary>
internal sealed class Road() : WeightKind("RoAd", "ROAD", [Angles, Scales])
{
    private const string Angles = "road_theta";
    private const string Scales = "road_alpha";

    protected override ModuleChanges Changes(AdaptedModule module, TargetTensor weight)
    {
        var name = module.Config.Json.String("variant") ?? "road_1";
        var variant = name switch
        {
            "road_1" => RoadVariant.Road1,
            "road_2" => RoadVariant.Road2,
            "road_4" => RoadVariant.Road4,
            _ => throw new MisfitException($"the variant '{name}' is not known; RoAd has road_1, road_2 and road_4"),
        };
        var (angles, scales) = (module.Part(Angles), module.Part(Scales));
        var group = (module.Config.Whole("group_size") ?? 64);
        var outputs = weight.Shape.Count == 2 ? weight.Shape[0] : 0;
        var bias = module.FindParameter("bias");
        AdaptedModule.Require(
            group >= 2 && group % 2 == 0 && outputs > 0 && outputs % group == 0 && (bias is null || bias.Shape.Count() == outputs)
            && angles.Shape.Count() == RoadTerm.Angles(variant, outputs) && scales.Shape.Count() == angles.Shape.Count(),
            $"{angles.Shape.Text()} angles and {scales.Shape.Text()} scales of {name}, in groups of {group}, do not fit {weight.Name} "
            + $"{weight.Shape.Text()}");
        RoadTerm Term(bool ofBias) => new(Name, angles, scales, variant, group, ofBias);
        var change = new TensorChange(weight, Term(ofBias: false));
        return bias is null ? new ModuleChanges(change) : new ModuleChanges(change, new TensorChange(bias, Term(ofBias: true)));
    }
}
