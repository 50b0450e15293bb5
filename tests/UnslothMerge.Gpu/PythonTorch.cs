using System.Diagnostics;
using UnslothMerge.Torch.Native;

namespace UnslothMerge.Gpu;

/// <summary>Finds the libtorch of an installed PyTorch, for the processes that this one starts.</summary>
internal static class PythonTorch
{
    private const string Script = """
        import glob, os, sys, torch
        root = os.path.dirname(torch.__file__)
        print(os.path.join(root, 'lib'))
        print(':'.join(glob.glob(os.path.join(root, '..', 'nvidia', '*', 'lib'))))
        print('python', sys.version.split()[0], 'torch', torch.__version__, 'CUDA', torch.version.cuda, 'C++11 ABI', torch._C._GLIBCXX_USE_CXX11_ABI)
        """;

    /// <summary>Sets UNSLOTHMERGE_LIBTORCH, unless it is set, and asks for no version.</summary>
    /// <returns>The directories with libraries: libtorch's own and those of CUDA beside it.</returns>
    public static string Prepare()
    {
        var libraries = Environment.GetEnvironmentVariable(LibTorch.Variable) ?? "";
        if (libraries.Length == 0 && Ask() is [var lib, var nvidia, var versions, ..])
        {
            Console.WriteLine(versions);
            Environment.SetEnvironmentVariable(LibTorch.Variable, lib);
            libraries = $"{lib}:{nvidia}";
        }

        Environment.SetEnvironmentVariable(LibTorch.AnyVariable, "1");
        return libraries;
    }

    private static string[] Ask()
    {
        try
        {
            using var python = Process.Start(new ProcessStartInfo("python3", ["-c", Script]) { RedirectStandardOutput = true })!;
            var text = python.StandardOutput.ReadToEnd();
            python.WaitForExit();
            return text.Split('\n');
        }
        catch (System.ComponentModel.Win32Exception e)
        {
            Console.WriteLine($"python3 cannot be asked for its PyTorch: {e.Message}");
            return [];
        }
    }
}
