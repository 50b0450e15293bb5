using UnslothMerge.Adapters.Terms;

namespace UnslothMerge.Adapters.Kinds;

/// <summary>A kind of adapter whose change to a module's weight is one matrix. See <see cref="MatrixDelta"/>.</summary>
internal abstract class MatrixKind(
    string name, string peftType, IReadOnlyList<string> parts,
    IReadOnlyList<string>? sharedParts = null) : WeightKind(name, peftType, parts, sharedParts)
{
    protected sealed override ModuleChanges Changes(AdaptedModule module, TargetTensor weight)
    {
        AdaptedModule.Require(weight.Shape.Count >= 2, $"the weight {weight.Name} {weight.Shape.Text()} is not a matrix");
        var view = MatrixView.ByOutput(weight.Shape);
        return new ModuleChanges(new TensorChange(weight, Term(Build(module), view), view));
    }

    /// <summary>Says what the tensors of one module are.</summary>
    protected abstract MatrixDelta Build(AdaptedModule module);

    /// <summary>Makes the term that applies the delta.</summary>
    protected virtual DeltaTerm Term(MatrixDelta delta, MatrixView view) => new MatrixTerm(Name, delta, view);
}
