using System.Diagnostics;
using UnslothMerge.Devices;
using UnslothMerge.Planning;
using UnslothMerge.Tests;

namespace UnslothMerge.Gpu;

/// <summary>One merge of the table, and what it took.</summary>
/// <param name="name">What the table calls it.</param>
/// <param name="model">The base.</param>
/// <param name="adapter">The adapter.</param>
internal sealed class TableRow(string name, string model, string adapter)
{
    public string Name => name;

    public string Base => model;

    /// <summary>The seconds on the device, by round.</summary>
    public List<double> Device { get; } = [];

    /// <summary>The seconds on the cores, by round.</summary>
    public List<double> Cores { get; } = [];

    /// <summary>The rounds that count.</summary>
    public int Rounds => Math.Max(1, Cores.Count - 1);

    /// <summary>Merges on the cores and on the device, planning included.</summary>
    /// <param name="device">The device.</param>
    /// <param name="directory">Where the outputs go.</param>
    /// <param name="check">True to compare the outputs, and to ask what -Device auto would do.</param>
    /// <param name="say">Prints a line.</param>
    public void Measure(DeviceRequest device, string directory, bool check, Action<string> say)
    {
        var (cores, there) = (Path.Combine(directory, "cores"), Path.Combine(directory, "device"));
        Cores.Add(Merge(new DeviceRequest(DeviceKind.Cpu), cores, _ => { }));
        if (!check)
        {
            Directory.Delete(cores, recursive: true);
        }

        Device.Add(Merge(device, there, line => Tell(line, check, say)));
        if (check)
        {
            say($"{name}: {SameModels.Check(cores, there)}");
            using var auto = Open(
                new DeviceRequest(DeviceKind.Auto), DeviceSaves.Plan(model, adapter), line => Tell(line, check, l => say($"auto: {l}")));
            Directory.Delete(cores, recursive: true);
        }

        Directory.Delete(there, recursive: true);
    }

    // Which libtorch it is has been said.
    private static void Tell(string line, bool check, Action<string> say)
    {
        if (check && line.StartsWith("Device", StringComparison.Ordinal))
        {
            say(line);
        }
    }

    private static DeviceRun? Open(DeviceRequest request, WritePlan plan, Action<string> say) =>
        DeviceSelection.Open(request, plan, MemoryAmount.Parse(MemoryAmount.Default), Environment.ProcessorCount, say);

    private double Merge(DeviceRequest request, string output, Action<string> say)
    {
        var clock = Stopwatch.StartNew();
        var plan = DeviceSaves.Plan(model, adapter);
        using var device = Open(request, plan, say);
        DeviceSaves.Save(plan, output, device, Environment.ProcessorCount);
        return clock.Elapsed.TotalSeconds;
    }
}
