namespace UnslothMerge.PowerShell.Common;

/// <summary>Adapters that come through the pipeline one by one, for one base that was given by name: together they are one merge.</summary>
internal sealed class PipedAdapters
{
    private readonly List<string> _adapters = [];
    private readonly List<double> _weights = [];
    private bool _collects;
    private bool _takesWeights;

    /// <summary>Looks at what the command line gives: with a base and no adapter there, adapters are expected from the pipeline.</summary>
    /// <exception cref="MergeException">Adapters are given in two ways.</exception>
    public void Begin(InvocationInfo invocation)
    {
        var given = invocation.BoundParameters;
        var isGiven = (given.ContainsKey("Adapter"), given.ContainsKey("LiteralPath"));
        if (isGiven is (true, true))
        {
            throw new MergeException(
                MergeError.InvalidOption, "-Adapter and -LiteralPath are two ways to say the same.", "LiteralPath", "Give one of them.");
        }

        _collects = invocation.ExpectingInput && given.ContainsKey("Base") && isGiven is (false, false);
        _takesWeights = !given.ContainsKey("Weight");
    }

    /// <summary>Takes the adapters of one object; false if none are expected.</summary>
    public bool Collect(string[]? adapters, double[]? weights)
    {
        if (_collects)
        {
            _adapters.AddRange(adapters ?? []);
            _weights.AddRange(_takesWeights ? weights ?? [] : []);
        }

        return _collects;
    }

    /// <summary>All adapters, and their weights where they came along; null if none were expected.</summary>
    /// <exception cref="MergeException">None came.</exception>
    public (IReadOnlyList<string> Adapters, double[]? Weights)? All()
    {
        if (_collects && _adapters.Count == 0)
        {
            throw new MergeException(
                MergeError.InvalidArgument, "No adapter came through the pipeline.", "Adapter",
                "Pipe what Get-LoraAdapter, Get-Item or Get-ChildItem emits, or give the paths as -Adapter.");
        }

        return _collects ? (_adapters, _weights.Count == 0 ? null : [.. _weights]) : null;
    }
}
