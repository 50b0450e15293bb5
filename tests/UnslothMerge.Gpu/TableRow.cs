namespace UnslothMerge.Gpu;

/// <summary>One merge of the table, and what it took.</summary>
internal sealed record TableRow(string Name, string Model, string Adapter, int Threads)
{
    public List<double> OnDevice { get; } = [];

    public List<double> OnCpu { get; } = [];

    /// <summary>Merges on the CPU and on the device, planning included; a check compares the outputs and asks what -Device auto would
    /// do.</summary>
    public void Measure(DeviceRequest device, TemporaryDirectory directory, bool check)
    {
        var (cpu, there) = (directory["cpu"], directory["device"]);
        OnCpu.Add(Merge(new DeviceRequest(DeviceKind.Cpu), cpu));
        OnDevice.Add(Merge(device, there));
        if (check)
        {
            Console.WriteLine($"{Name}: {SameModels.Check(cpu, there)}");
            using var auto = Open(new DeviceRequest(DeviceKind.Auto), TinyModel.WritePlan(TinyModel.Plan(Model, Adapter)),
                line => Console.WriteLine($"{Name}, auto: {line}"));
        }

        Directory.Delete(cpu, recursive: true);
        Directory.Delete(there, recursive: true);
    }

    private DeviceRun? Open(DeviceRequest request, WritePlan plan, Action<string> note) =>
        DeviceSelection.Open(request, plan, MemoryAmount.Parse(MemoryAmount.Default), Threads, note);

    private double Merge(DeviceRequest request, string output)
    {
        var clock = Stopwatch.StartNew();
        var plan = TinyModel.WritePlan(TinyModel.Plan(Model, Adapter));
        using var device = Open(request, plan, _ => { });
        TinyModel.Save(plan, output, Threads, device: device);
        return clock.Elapsed.TotalSeconds;
    }
}
