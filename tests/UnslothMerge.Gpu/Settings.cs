namespace UnslothMerge.Gpu;

/// <summary>What the command line says.</summary>
internal sealed record Settings(DeviceRequest Device, string Shape, int Rounds, string Directory)
{
    /// <summary>The arguments that say the same.</summary>
    public string[] Arguments => ["--device", $"{Device}", "--shape", Shape, "--rounds", $"{Rounds}", "--directory", Directory];
}
