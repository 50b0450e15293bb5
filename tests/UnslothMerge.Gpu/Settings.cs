namespace UnslothMerge.Gpu;

/// <summary>What the command line says.</summary>
/// <param name="Device">The device that is checked.</param>
/// <param name="Shape">The name of the model's shape for the table.</param>
/// <param name="Rounds">The rounds of the table.</param>
/// <param name="Directory">Where models are made for the time being.</param>
internal sealed record Settings(DeviceRequest Device, string Shape, int Rounds, string Directory)
{
    /// <summary>The arguments that say the same.</summary>
    public string[] Arguments => ["--device", $"{Device}", "--shape", Shape, "--rounds", $"{Rounds}", "--directory", Directory];
}
