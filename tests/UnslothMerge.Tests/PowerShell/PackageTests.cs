using System.IO.Compression;
using System.Reflection;
using System.Reflection.Emit;

namespace UnslothMerge.Tests.PowerShell;

public sealed class PackageTests
{
    [Fact]
    public void A_package_works_in_any_folder_and_beside_other_versions_of_its_dependencies()
    {
        using var directory = new TemporaryDirectory();
        var output = directory["a [package] of mine"];
        var made = PowerShellProcess.Run($$"""
            $made = & '{{Path.Combine(Fixtures.Root, "build.ps1")}}' Package -NoBuild -OutputPath '{{output}}' -Sign { Set-Content -LiteralPath "$($args[0])/signature" S }
            $made.FullName
            """);
        Assert.Equal(2, made.Count);
        Assert.Equal([made[1]], Directory.GetFiles(output));
        using (var package = ZipFile.OpenRead(made[1]))
        {
            var names = package.Entries.Select(e => e.FullName).ToList();
            Assert.Superset(
                new HashSet<string> { "UnslothMerge.nuspec", "UnslothMerge.psd1", "UnslothMerge.format.ps1xml", "bin/UnslothMerge.PowerShell.dll", "bin/engine/UnslothMerge.Engine.dll", "signature" },
                names.ToHashSet());
            Assert.DoesNotContain(names, n => n.EndsWith(".pdb", StringComparison.Ordinal) || n.Contains("torch_", StringComparison.Ordinal) || n.Contains("c10", StringComparison.Ordinal));
            Assert.InRange(new FileInfo(made[1]).Length, 1, 5_000_000);

            using var nuspec = new StreamReader(package.GetEntry("UnslothMerge.nuspec")!.Open());
            var text = nuspec.ReadToEnd();
            Assert.Contains($"<version>{typeof(MergeException).Assembly.GetName().Version!.ToString(3)}</version>", text, StringComparison.Ordinal);
            Assert.Contains("PSModule", text, StringComparison.Ordinal);
        }

        // Empty assemblies: whoever binds to them finds nothing in them.
        var strangers = new[] { "MathNet.Numerics", "System.Numerics.Tensors" }.Select(name => Stranger(name, directory[name + ".dll"]));
        var lines = PowerShellProcess.Run(
            $$"""
            Import-Module -Name ([WildcardPattern]::Escape('{{made[0]}}/UnslothMerge.psd1'))
            foreach ($path in '{{string.Join("', '", strangers)}}') { [Runtime.Loader.AssemblyLoadContext]::Default.LoadFromAssemblyPath($path).GetName().Version.Major }
            foreach ($case in 'peft-osf-mlp-1', 'peft-waveft-mlp-6') {
                (Merge-LoraModel '{{Fixtures.Base("peft-MLP")}}' "{{Path.Combine(Fixtures.Path, "cases")}}/$case/adapter" | Save-MergedModel "{{directory["out"]}}/$case").Path
            }

            (Get-Command Save-MergedModel).Module.ModuleBase
            """);
        Assert.Equal(["99", "99", .. new[] { "peft-osf-mlp-1", "peft-waveft-mlp-6" }.Select(c => Path.Combine(directory["out"], c, "model.safetensors")), made[0]], lines);
    }

    private static string Stranger(string name, string path)
    {
        var assembly = new PersistedAssemblyBuilder(new AssemblyName(name) { Version = new Version(99, 0, 0, 0) }, typeof(object).Assembly);
        assembly.DefineDynamicModule(name);
        assembly.Save(path);
        return path;
    }
}
