using System.Diagnostics;
using UnslothMerge.Torch.Native;

namespace UnslothMerge.Gpu.Steps;

/// <summary>Runs every step in a process of its own, each within its time.</summary>
internal static class StepProcesses
{
    private static readonly Stopwatch Clock = Stopwatch.StartNew();

    /// <summary>Runs all steps; without a device that works, only the first.</summary>
    /// <returns>0 if all passed.</returns>
    public static int RunAll(Settings settings)
    {
        var failed = new List<string>();
        foreach (var step in Step.All)
        {
            if (!Passes(step, settings))
            {
                failed.Add(step.Name);
                if (step is ProbeStep && !PassesWithLibraries(step, settings))
                {
                    break;
                }
            }
        }

        Console.WriteLine(failed.Count == 0 ? "\nAll steps passed." : $"\nFailed: {string.Join(", ", failed)}.");
        return failed.Count == 0 ? 0 : 1;
    }

    private static bool Passes(Step step, Settings settings)
    {
        Console.WriteLine($"\n== {step.Name}");
        var exit = Run(step.Seconds, Environment.ProcessPath!, ["--step", step.Name, "--device", $"{settings.Device}", "--shape", settings.Shape, "--rounds", $"{settings.Rounds}", "--directory", settings.Directory]);
        Console.WriteLine($"== {step.Name}: {(exit == 0 ? "passed" : exit is { } code ? $"FAILED, exit code {code}" : $"STOPPED after {step.Seconds} s")}, {Clock.Elapsed.TotalSeconds:F1} s in all");
        return exit == 0;
    }

    // Whether the loader only does not find CUDA's libraries: it does in LD_LIBRARY_PATH.
    private static bool PassesWithLibraries(Step step, Settings settings)
    {
        Diagnose(settings);
        Environment.SetEnvironmentVariable("LD_LIBRARY_PATH", PythonTorch.Libraries);
        Console.WriteLine($"\n== once more, with LD_LIBRARY_PATH={PythonTorch.Libraries}");
        return Passes(step, settings);
    }

    // Which symbols of the binding are in no library, and where the loader looked.
    private static void Diagnose(Settings settings)
    {
        var binding = Path.Combine(LibTorchLoader.NativeDirectory, LibTorch.FileName("LibTorchSharp"));
        Console.WriteLine($"\n== ldd -r {binding}");
        Run(30, "sh", ["-c", $"export LD_LIBRARY_PATH='{PythonTorch.Libraries}'; ldd '{binding}' 2>&1; ldd -r '{binding}' 2>&1 | grep undefined | cut -f1 | head -60 | (c++filt 2>/dev/null || cat)"]);
        Console.WriteLine("\n== LD_DEBUG=libs");
        Run(60, "sh", ["-c", $"LD_DEBUG=libs '{Environment.ProcessPath}' --step probe --device {settings.Device} 2>&1 | grep -E '(torch|cuda|c10|cublas|stdc).*error|calling init.*(torch|cuda|c10|cublas|stdc)' | head -100"]);
    }

    private static int? Run(int seconds, string program, string[] arguments)
    {
        using var process = Process.Start(program, arguments);
        if (process.WaitForExit(TimeSpan.FromSeconds(seconds)))
        {
            return process.ExitCode;
        }

        process.Kill(entireProcessTree: true);
        process.WaitForExit();
        return null;
    }
}
