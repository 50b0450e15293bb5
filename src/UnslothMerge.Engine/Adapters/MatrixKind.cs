using UnslothMerge.Adapters.Terms;
using UnslothMerge.Formats;
using UnslothMerge.Safetensors;

namespace UnslothMerge.Adapters;

/// <summary>A kind of adapter whose change to a module's weight is one matrix. See <see cref="MatrixDelta"/>.</summary>
public abstract class MatrixKind : AdapterKind
{
    /// <inheritdoc/>
    public sealed override bool Bind(ModuleAdapter module, IAdapterTarget target)
    {
        if (target.Find(module.Module, "weight") is not { } weight)
        {
            return false;
        }

        try
        {
            ModuleParts.Require(weight.Shape.Count >= 2, $"the weight {weight.Name} {weight.Shape.Text()} is not a matrix");
            var delta = Build(new ModuleParts(module, weight, target));
            var view = MatrixView.ByOutput(weight.Shape);
            target.Add(weight, module.Module, Term(delta, view), view);
        }
        catch (MisfitException misfit)
        {
            foreach (var tensor in module.Tensors.Values)
            {
                target.Problem(tensor, misfit.Message);
            }
        }

        return true;
    }

    /// <summary>Says what the tensors of one module are.</summary>
    /// <exception cref="MisfitException">They do not fit together, or not the weight.</exception>
    protected abstract MatrixDelta Build(ModuleParts parts);

    /// <summary>Makes the term that applies the delta.</summary>
    protected virtual DeltaTerm Term(MatrixDelta delta, MatrixView view) => new MatrixTerm(Name, delta, view);
}

/// <summary>Thrown while a module is bound, where its tensors do not fit; the message says why and becomes part of the plan's report.</summary>
public sealed class MisfitException(string reason) : Exception(reason);
