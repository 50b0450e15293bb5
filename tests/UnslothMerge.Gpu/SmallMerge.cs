using UnslothMerge.Bench.Generating;

namespace UnslothMerge.Gpu;

/// <summary>Two layers of a Llama of 1 B parameters and an adapter of rank 64: some 250 MB, saved on the CPU once.</summary>
internal sealed class SmallMerge : IDisposable
{
    private readonly TemporaryDirectory _directory;

    public SmallMerge(string parent)
    {
        _directory = new TemporaryDirectory(parent);
        var shape = ModelShape.Of("1b") with { Layers = 2, Vocabulary = 1024 };
        var (model, adapter) = (_directory["base"], _directory["adapter"]);
        ModelGenerator.Generate(shape, model, TensorType.BF16, 5_000_000_000, sparse: false, CancellationToken.None);
        AdapterGenerator.Generate(shape, 64, adapter, TensorType.F32, dora: false, sparse: false, CancellationToken.None);
        Plan = TinyModel.WritePlan(TinyModel.Plan(model, adapter));
        TinyModel.Save(Plan, _directory["cores"]);
    }

    /// <summary>What is written.</summary>
    public WritePlan Plan { get; }

    /// <summary>Saves it on a device and compares what comes out with what the cores made.</summary>
    public SameModels SaveOn(DeviceRun device)
    {
        var output = _directory["device"];
        TinyModel.Save(Plan, output, Environment.ProcessorCount, device: device);
        var same = SameModels.Check(_directory["cores"], output);
        Directory.Delete(output, recursive: true);
        return same;
    }

    public void Dispose() => _directory.Dispose();
}
