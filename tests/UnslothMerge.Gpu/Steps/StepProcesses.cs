using System.Diagnostics;
using UnslothMerge.Torch.Native;

namespace UnslothMerge.Gpu.Steps;

/// <summary>Runs every step in a process of its own, each within its time.</summary>
internal static class StepProcesses
{
    /// <summary>Runs all steps; without a device that works, only the first.</summary>
    /// <returns>0 if all passed.</returns>
    public static int RunAll(Settings settings)
    {
        var libraries = PythonTorch.Prepare();
        var failed = new List<string>();
        var clock = Stopwatch.StartNew();
        foreach (var step in Step.All)
        {
            Console.WriteLine($"\n== {step.Name}");
            var exit = Run(step.Seconds, Environment.ProcessPath!, ["--step", step.Name, "--device", $"{settings.Device}", "--shape", settings.Shape, "--rounds", $"{settings.Rounds}", "--directory", settings.Directory]);
            Console.WriteLine($"== {step.Name}: {(exit == 0 ? "passed" : exit is { } code ? $"FAILED, exit code {code}" : $"STOPPED after {step.Seconds} s")}, {clock.Elapsed.TotalSeconds:F1} s in all");
            if (exit != 0)
            {
                failed.Add(step.Name);
                if (step is ProbeStep)
                {
                    Diagnose(settings, libraries);
                    break;
                }
            }
        }

        Console.WriteLine(failed.Count == 0 ? "\nAll steps passed." : $"\nFailed: {string.Join(", ", failed)}.");
        return failed.Count == 0 ? 0 : 1;
    }

    // Which symbols of the binding are in no library, and where the loader looked.
    private static void Diagnose(Settings settings, string libraries)
    {
        var binding = Path.Combine(LibTorchLoader.NativeDirectory, LibTorch.FileName("LibTorchSharp"));
        Console.WriteLine($"\n== ldd -r {binding}");
        Run(30, "sh", ["-c", $"LD_LIBRARY_PATH='{libraries}' ldd -r '{binding}' 2>&1 | grep -E 'undefined|not found|libtorch|libc10|libstdc' | head -100 | (c++filt 2>/dev/null || cat)"]);
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
