namespace UnslothMerge.Tests.PowerShell;

public sealed class IsolationTests
{
    [Fact]
    public void The_engine_stays_out_of_the_session()
    {
        var lines = PowerShellProcess.RunWithModule($$"""
            $null = Get-ModelTensor '{{Fixtures.Base("llama-bf16")}}'
            foreach ($assembly in [AppDomain]::CurrentDomain.GetAssemblies()) {
                $name = $assembly.GetName().Name
                if ($name -like 'UnslothMerge.*') {
                    $context = [System.Runtime.Loader.AssemblyLoadContext]::GetLoadContext($assembly)
                    "$name $($context -eq [System.Runtime.Loader.AssemblyLoadContext]::Default)"
                }
            }
            """);
        Assert.Single(lines, l => l.StartsWith("UnslothMerge.PowerShell ", StringComparison.Ordinal));
        var engine = Assert.Single(lines, l => l.StartsWith("UnslothMerge.Engine ", StringComparison.Ordinal));
        Assert.Equal("UnslothMerge.Engine False", engine);
    }
}
