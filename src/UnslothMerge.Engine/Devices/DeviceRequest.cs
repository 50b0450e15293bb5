namespace UnslothMerge.Devices;

/// <summary>Where the arithmetic of a merge is done.</summary>
internal enum DeviceKind
{
    /// <summary>The faster one for this merge.</summary>
    Auto,

    /// <summary>The processor's cores, with this project's kernels.</summary>
    Cpu,

    /// <summary>An NVIDIA GPU, through libtorch.</summary>
    Cuda,

    /// <summary>libtorch on the processor. For tests on machines without a GPU.</summary>
    TorchCpu,
}

/// <summary>The device that a caller asks for.</summary>
internal readonly record struct DeviceRequest(DeviceKind Kind, int Index = 0)
{
    /// <summary>Reads <c>auto</c>, <c>cpu</c>, <c>cuda</c>, <c>cuda:1</c> or <c>torch-cpu</c>.</summary>
    public static DeviceRequest Parse(string text) => text.ToLowerInvariant() switch
    {
        "auto" => new(DeviceKind.Auto),
        "cpu" => new(DeviceKind.Cpu),
        "cuda" => new(DeviceKind.Cuda),
        "torch-cpu" => new(DeviceKind.TorchCpu),
        ['c', 'u', 'd', 'a', ':', .. var index] when int.TryParse(index, NumberStyles.None, CultureInfo.InvariantCulture, out var n) =>
            new(DeviceKind.Cuda, n),
        _ =>
            throw new MergeException(MergeError.InvalidOption, $"'{text}' is not a device.", "Device",
                "Use auto, cpu, cuda, or cuda:1 for the second of several GPUs."),
    };

    public override string ToString() => Kind switch
    {
        DeviceKind.Cuda => $"cuda:{Index}",
        DeviceKind.TorchCpu => "torch-cpu",
        DeviceKind.Cpu => "cpu",
        _ => "auto",
    };
}
