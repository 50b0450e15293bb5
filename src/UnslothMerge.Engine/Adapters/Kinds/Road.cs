using UnslothMerge.Adapters.Terms;
using UnslothMerge.Models;
using UnslothMerge.Safetensors;

namespace UnslothMerge.Adapters.Kinds;

/// <summary>RoAd: pairs of outputs are rotated and scaled, those of the bias too. Source: RoAd (arXiv 2409.00119); PEFT 0.21, <c>road.Linear</c>.</summary>
public sealed class Road : AdapterKind
{
    private const string Angles = "road_theta";
    private const string Scales = "road_alpha";

    /// <inheritdoc/>
    public override string Name => "RoAd";

    /// <inheritdoc/>
    public override string PeftType => "ROAD";

    /// <inheritdoc/>
    public override IReadOnlyList<string> Parts { get; } = [Angles, Scales];

    /// <inheritdoc/>
    public override bool Bind(ModuleAdapter module, IAdapterTarget target)
    {
        if (target.Find(module.Module, "weight") is not { } weight)
        {
            return false;
        }

        var name = module.Config.Json.String("variant") ?? "road_1";
        RoadVariant? variant = name switch { "road_1" => RoadVariant.Road1, "road_2" => RoadVariant.Road2, "road_4" => RoadVariant.Road4, _ => null };
        var group = (long)(module.Config.Json.Number("group_size") ?? 64);
        var outputs = weight.Shape.Count == 2 ? weight.Shape[0] : 0;
        var bias = target.Find(module.Module, "bias");
        if (variant is not { } known)
        {
            target.Problem(module, $"the variant '{name}' is not known; RoAd has road_1, road_2 and road_4");
        }
        else if (module.Find(Angles) is not { } angles || module.Find(Scales) is not { } scales)
        {
            target.Problem(module, $"the module {module.Module} has only one of {Angles} and {Scales}");
        }
        else if (group < 2 || group % 2 != 0 || outputs == 0 || outputs % group != 0 || bias?.Shape.Count() is { } length && length != outputs
            || angles.Shape.Count() != RoadTerm.Angles(known, outputs) || scales.Shape.Count() != angles.Shape.Count())
        {
            target.Problem(module, $"{angles.Shape.Text()} angles and {scales.Shape.Text()} scales of {name}, in groups of {group}, do not fit {weight.Name} {weight.Shape.Text()}");
        }
        else
        {
            target.Add(weight, module.Module, new RoadTerm(Name, angles, scales, known, (int)group, ofBias: false));
            if (bias is not null)
            {
                target.Add(bias, module.Module, new RoadTerm(Name, angles, scales, known, (int)group, ofBias: true));
            }
        }

        return true;
    }
}
