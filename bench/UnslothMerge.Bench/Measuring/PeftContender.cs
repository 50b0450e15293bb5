using System.ComponentModel;

namespace UnslothMerge.Bench.Measuring;

/// <summary>PEFT's own merge on the CPU, for comparison: load, merge_and_unload, save_pretrained.</summary>
internal sealed record PeftContender(Merge Merge, bool Sync) : Contender($"PEFT {Merge.Name}", Sync)
{
    private const string Script = """
        import resource, sys, time
        import torch
        from peft import PeftModel
        from transformers import AutoModelForCausalLM
        start = time.perf_counter()
        model = AutoModelForCausalLM.from_pretrained(sys.argv[1], torch_dtype="auto")
        PeftModel.from_pretrained(model, sys.argv[2]).merge_and_unload().save_pretrained(sys.argv[3])
        print(time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024))
        """;

    /// <summary>True if there is a Python that can do it.</summary>
    public static bool IsInstalled
    {
        get
        {
            try
            {
                ChildProcess.Run("python3", "-c", "import peft, torch, transformers");
                return true;
            }
            catch (Exception e) when (e is InvalidOperationException or Win32Exception)
            {
                return false;
            }
        }
    }

    public override Measurement Run(string output)
    {
        var (text, seconds) = ChildProcess.Run("python3", "-c", Script, Merge.Base, Merge.Adapter, output);
        var figures = text.Trim().Split('\n')[^1].Split(' ');
        var flush = Flush(output);
        var (work, peak) = (double.Parse(figures[0], CultureInfo.InvariantCulture), long.Parse(figures[1], CultureInfo.InvariantCulture));
        return new Measurement(work + flush, seconds + flush, peak);
    }
}
