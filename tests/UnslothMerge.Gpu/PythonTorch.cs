using System.Diagnostics;
using UnslothMerge.Torch.Native;

namespace UnslothMerge.Gpu;

/// <summary>Finds the libtorch of an installed PyTorch, for this process and those that it starts.</summary>
internal static class PythonTorch
{
    private const string Script = """
        import glob, os, sys, torch
        root = os.path.dirname(torch.__file__)
        print(os.path.join(root, 'lib'))
        print(':'.join(os.path.realpath(d) for d in glob.glob(os.path.join(root, '..', 'nvidia', '*', 'lib'))))
        print('python', sys.version.split()[0], 'torch', torch.__version__, 'CUDA', torch.version.cuda, 'C++11 ABI', torch._C._GLIBCXX_USE_CXX11_ABI)
        """;

    /// <summary>The directories with libraries: libtorch's own and those of CUDA beside it.</summary>
    public static string Libraries { get; private set; } = "";

    /// <summary>Sets UNSLOTHMERGE_LIBTORCH, unless it is set, and asks for no version.</summary>
    public static void Find()
    {
        Libraries = Environment.GetEnvironmentVariable(LibTorch.Variable) ?? "";
        if (Libraries.Length == 0 && Ask() is [var lib, var nvidia, var versions, ..])
        {
            Console.WriteLine(versions);
            Environment.SetEnvironmentVariable(LibTorch.Variable, lib);
            Libraries = $"{lib}:{nvidia}";
        }

        Environment.SetEnvironmentVariable(LibTorch.AnyVariable, "1");
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
