using System.IO.Compression;
using System.Reflection.Emit;

namespace UnslothMerge.Tests.PowerShell;

public sealed class PackageTests : FileTests
{
    [Fact]
    public void A_package_works_in_any_folder_and_beside_other_versions_of_its_dependencies()
    {
        var output = Temp["a [package] of mine"];
        var made = PowerShellProcess.Run($$"""
            $sign = { Set-Content -LiteralPath "$($args[0])/signature" S }
            (& '{{Path.Combine(Fixtures.Root, "build.ps1")}}' Package -NoBuild -OutputPath '{{output}}' -Sign $sign).FullName
            """);
        Assert.Equal(2, made.Count);
        Assert.Equal([made[1]], Directory.GetFiles(output));
        using (var package = ZipFile.OpenRead(made[1]))
        {
            var names = package.Entries.Select(e => e.FullName).ToList();
            Assert.Superset(
                new HashSet<string>
                {
                    "UnslothMerge.nuspec", "UnslothMerge.psd1", "UnslothMerge.format.ps1xml", "UnslothMerge.types.ps1xml",
                    "UnslothMerge.OneVersion.psm1", "UnslothMerge.Types.psd1", "signature",
                    "bin/UnslothMerge.PowerShell.dll", "bin/engine/UnslothMerge.Engine.dll",
                },
                names.ToHashSet());
            string[] absent = [".pdb", "torch_", "c10"];
            Assert.All(absent, part => Assert.DoesNotContain(names, n => n.Contains(part, StringComparison.Ordinal)));
            Assert.InRange(new FileInfo(made[1]).Length, 1, 6_000_000);

            using var nuspec = new StreamReader(package.GetEntry("UnslothMerge.nuspec")!.Open());
            var text = nuspec.ReadToEnd();
            var version = typeof(MergeException).Assembly.GetName().Version!.ToString(3);
            Assert.Contains($"<version>{version}</version>", text, StringComparison.Ordinal);
            Assert.Contains("PSModule", text, StringComparison.Ordinal);
        }

        // Empty assemblies: whoever binds to them finds nothing in them.
        var strangers = new[] { "MathNet.Numerics", "System.Numerics.Tensors" }.Select(name => Stranger(name, Temp[name + ".dll"]));
        var lines = PowerShellProcess.Run(
            $$"""
            Import-Module -Name ([WildcardPattern]::Escape('{{made[0]}}/UnslothMerge.psd1'))
            foreach ($path in '{{string.Join("', '", strangers)}}') {
                [Runtime.Loader.AssemblyLoadContext]::Default.LoadFromAssemblyPath($path).GetName().Version.Major
            }
            foreach ($case in 'peft-osf-mlp-1', 'peft-waveft-mlp-6') {
                $tensors = Merge-LoraModel '{{Fixtures.Base("peft-MLP")}}' "{{Fixtures.Path}}/cases/$case/adapter"
                ($tensors | Save-MergedModel "{{Temp["out"]}}/$case").Path
            }

            (Get-Command Save-MergedModel).Module.ModuleBase
            """);
        string Merged(string name) => Path.Combine(Temp["out"], name, "model.safetensors");
        Assert.Equal(["99", "99", Merged("peft-osf-mlp-1"), Merged("peft-waveft-mlp-6"), made[0]], lines);
    }

    [Fact]
    public void A_gallery_takes_a_package_and_a_fresh_session_installs_it()
    {
        Assert.SkipWhen(
            OperatingSystem.IsWindows(), "Windows has one Documents folder, and modules would be installed in that of the user.");
        var lines = PowerShellProcess.Run(
            $$"""
            $package = (& '{{Path.Combine(Fixtures.Root, "build.ps1")}}' Package -NoBuild -OutputPath '{{Temp["package"]}}')[1].FullName
            Register-PSResourceRepository -Name gallery -Uri (New-Item '{{Temp["gallery"]}}' -ItemType Directory).FullName -Trusted
            Publish-PSResource -NupkgPath $package -Repository gallery
            $found = Find-PSResource UnslothMerge -Repository gallery
            ($found.Includes.Cmdlet | Sort-Object) -join ' '
            ((Import-PowerShellDataFile '{{Path.Combine(Fixtures.Root, "UnslothMerge.psd1")}}').CmdletsToExport | Sort-Object) -join ' '
            Install-PSResource UnslothMerge -Repository gallery
            """,
            Home());
        Assert.Equal(2, lines.Count);
        Assert.Equal(lines[1], lines[0]);

        // The module is found by its name, and the command by itself.
        var merged = PowerShellProcess.Run(
            $"""
            $tensors = Merge-LoraModel '{Fixtures.Base("llama-bf16")}' '{Fixtures.Adapter("lora-all-linear")}'
            ($tensors | Save-MergedModel '{Temp["out"]}').Name
            (Get-Module UnslothMerge).ModuleBase
            """,
            Home());
        Assert.Equal("model.safetensors", merged[0]);
        Assert.StartsWith(Temp["home"], merged[1], StringComparison.Ordinal);
    }

    private (string Name, string Value)[] Home() =>
        [("HOME", Temp["home"]), ("XDG_DATA_HOME", Directory.CreateDirectory(Temp["home/.local/share"]).FullName)];

    private static string Stranger(string name, string path)
    {
        var assembly = new PersistedAssemblyBuilder(new AssemblyName(name) { Version = new Version(99, 0, 0, 0) }, typeof(object).Assembly);
        assembly.DefineDynamicModule(name);
        assembly.Save(path);
        return path;
    }
}
