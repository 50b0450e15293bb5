using Xunit;

namespace UnslothMerge.Tests.Pester;

public sealed class DiscoveryTests
{
    [Fact]
    public void Tests_come_in_order_with_full_names()
    {
        var outcomes = TestFile.Run("""
            Describe 'a' {
                It 'one' { }
                Context 'b' { It 'two' { } }
                It 'three' { }
                It 'one' { }
            }
            """);
        Assert.Equal(["a.one", "a.b.two", "a.three", "a.one (2)"], outcomes.Keys);
    }

    [Fact]
    public void ForEach_fills_names_and_variables()
    {
        var text = """
            Describe 'block <name>' -ForEach @{ name = 'x'; n = @{ Deep = 1 } }, @{ name = 'y'; n = @{ Deep = 2 } } {
                BeforeAll { $fromAll = "$name$($n.Deep)" }
                It 'has <n.Deep> and <_>' -ForEach 'p', 'q' {
                    $name | Should -BeIn 'x', 'y'
                    $_ | Should -BeIn 'p', 'q'
                    $fromAll | Should -Be "$name$($n.Deep)"
                }
                It 'keeps $_ of the block' { $_.name | Should -Be $name; $_ | Should -BeOfType hashtable }
                It 'case <i> of `<name`> as <_.i>' -TestCases @(@{ i = 1 }; @{ i = $null }) { $i | Should -BeIn 1, $null }
            }
            """;
        TestFile.Passes(text);
        Assert.Equal(
            [
                "block x.has 1 and p", "block x.has 1 and q", "block x.keeps $_ of the block",
                "block x.case 1 of <name> as 1", "block x.case  of <name> as ",
                "block y.has 2 and p", "block y.has 2 and q", "block y.keeps $_ of the block",
                "block y.case 1 of <name> as 1", "block y.case  of <name> as ",
            ],
            TestFile.Run(text).Keys);
    }

    [Fact]
    public void ForEach_sets_variables_for_discovery_too()
    {
        var outcomes = TestFile.Run("""
            Describe 'd' -ForEach @{ many = 1, 2 } {
                It 'i<_>' -ForEach $many -Skip:($many[0] -eq $_) { }
            }
            """);
        // -Skip is evaluated where It is called, when $_ is still the block's.
        Assert.Equal(["d.i1", "d.i2"], outcomes.Keys);
    }

    [Fact]
    public void ForEach_does_not_leak() => TestFile.Passes("""
        Describe 'a' -ForEach @{ x = 1 } { It 'i <y>' -ForEach @{ y = 2 } { $x, $y | Should -Be 1, 2 }
                                           It 'j' { $x, $y | Should -Be 1, $null } }
        Describe 'b' { It 'i' { $x, $y | Should -Be $null, $null } }
        """);

    [Fact]
    public void Skipping_says_why()
    {
        var outcomes = TestFile.Run("""
            Describe 'a' {
                AfterEach { $script:after++ }
                It 'marked' -Skip { throw }
                It 'computed' -Skip:(1 -eq 1) { throw }
                It 'not' -Skip:$false { }
                It 'late' { Set-ItResult -Skipped -Because 'it rains'; throw }
                It 'no reason' { Set-ItResult -Skipped; throw }
                It 'end' { $after | Should -Be 3 }
            }
            Describe 'b' -Skip {
                BeforeAll { throw }
                AfterAll { throw }
                It 'i' { }
                Context 'c' { It 'i' { } }
            }
            Describe 'e' {
                BeforeAll { throw }
                It 'i' -Skip { }
            }
            """);
        Assert.Equal(
            new Dictionary<string, Outcome>
            {
                ["a.marked"] = new(Result.Skipped, "marked -Skip"),
                ["a.computed"] = new(Result.Skipped, "marked -Skip"),
                ["a.not"] = new(Result.Passed),
                ["a.late"] = new(Result.Skipped, "it rains"),
                ["a.no reason"] = new(Result.Skipped, "Set-ItResult -Skipped"),
                ["a.end"] = new(Result.Passed),
                ["b.i"] = new(Result.Skipped, "marked -Skip"),
                ["b.c.i"] = new(Result.Skipped, "marked -Skip"),
                ["e.i"] = new(Result.Skipped, "marked -Skip"),
            },
            outcomes);
    }

    [Fact]
    public void Needs_skips_what_has_no_command()
    {
        var outcomes = TestFile.Run("""
            Describe 'a' -Tag Slow, 'Needs:Where-Object' {
                It 'has' -Tag 'Needs:ForEach-Object' { }
                It 'has not' -Tag 'Needs:No-Such', Fast { throw }
            }
            Describe 'b' -Tag 'needs:No-Such' {
                BeforeAll { throw }
                It 'i' { throw }
            }
            """);
        Assert.Equal(new Outcome(Result.Passed), outcomes["a.has"]);
        Assert.Equal(new Outcome(Result.Skipped, "needs No-Such"), outcomes["a.has not"]);
        Assert.Equal(new Outcome(Result.Skipped, "needs No-Such"), outcomes["b.i"]);
    }

    [Fact]
    public void Needs_is_not_satisfied_by_an_alias_of_nothing()
    {
        // "gci" is an alias in every runspace, of a command that is in some.
        var outcome = TestFile.Run("""
            Describe 'd' { It 'i' -Tag 'Needs:gci' { Get-Command Get-ChildItem -ErrorAction Stop } }
            """)["d.i"];
        Assert.NotEqual(Result.Failed, outcome.Result);
    }

    [Fact]
    public void A_test_file_knows_where_it_is() => TestFile.Passes("""
        $here = $PSScriptRoot
        BeforeAll { $before = $PSScriptRoot; $path = $PSCommandPath }
        Describe 'd' {
            It 'i' -Skip:([IO.Path]::GetFileName($PSCommandPath) -ne 'Some.Tests.ps1' -or $here -ne $PSScriptRoot) {
                $PSScriptRoot | Should -Be $before
                $PSCommandPath | Should -Be $path
                $path | Should -Be ([IO.Path]::Combine($PSScriptRoot, 'Some.Tests.ps1'))
                & { $PSScriptRoot } | Should -Be $before
            }
        }
        """);

    [Theory]
    [InlineData("", "The file has no test")]
    [InlineData("Describe 'd' { }", "The file has no test")]
    [InlineData("Describe 'd' { It 'i' { }", "Missing closing '}'")]
    [InlineData("param($x)\nDescribe 'd' { It 'i' { } }", "param() block is not supported")]
    [InlineData("throw 'no'\nDescribe 'd' { It 'i' { } }", "no")]
    [InlineData("Describe 'd' { It 'i' { } }\nexit", "break, continue or exit")]
    [InlineData("Describe 'd' { It 'i' { } }\nDescribe 'e' { throw 'no' }", "no")]
    [InlineData("Describe 'd' { It 'i' { }\nGet-Missing }", "The term 'Get-Missing'")]
    [InlineData("Describe 'd' { It 'i' { }\nContext 'c' { [int] 'x' } }", "Cannot convert value")]
    [InlineData("It 'i' { }", "It belongs into a Describe")]
    [InlineData("Describe 'd' { It 'i' }", "")]
    [InlineData("Describe 'd' { It 'i' { param($x) } }", "param() block is not supported")]
    [InlineData("Describe 'd' { It 'i' -Focus { } }", "'Focus'")]
    [InlineData("Describe 'd' { It 'i' -Pending { } }", "'Pending'")]
    [InlineData("Describe 'd' { It 'i' -AllowNullOrEmptyForEach -ForEach @() { } }", "'AllowNullOrEmptyForEach'")]
    [InlineData("Describe 'd' { It 'i' -ForEach @() { }\nIt 'j' { } }", "-ForEach of 'i' is empty")]
    [InlineData("Describe 'd' -ForEach $null { It 'j' { } }", "-ForEach of 'd' is empty")]
    [InlineData("Describe 'd' { It 'has <x>' { } }", "<x>, which is not in its -ForEach")]
    [InlineData("Describe 'd' { It 'has <y>' -ForEach @{ x = 1 } { } }", "<y>, which is not in its -ForEach")]
    [InlineData("Describe 'd' { It 'has <x; 1>' -ForEach @{ x = 1 } { } }", "<x; 1>, which is not in its -ForEach")]
    [InlineData("BeforeEach { }\nDescribe 'd' { It 'i' { } }", "BeforeEach outside a Describe")]
    [InlineData("Describe 'd' { BeforeAll { }\nBeforeAll { }\nIt 'i' { } }", "a second BeforeAll")]
    [InlineData("Describe 'd' { It 'i' { } }\nMock Get-Command { }", "The term 'Mock'")]
    [InlineData("Describe 'd' { It 'i' { } }\nSet-ItResult -Skipped", "Set-ItResult works in an It")]
    public void What_is_wrong_is_refused(string text, string message) =>
        Assert.Contains(message, TestFile.Refused(text), StringComparison.Ordinal);

    [Theory]
    [InlineData("Describe 'd' {\n throw 'no' }", "no\nAt ", "Some.Tests.ps1:2 char:2\n")]
    [InlineData("Describe 'd' {\n Context 'c' {\n Get-Missing } }", "The term 'Get-Missing'", "Some.Tests.ps1:3 char:2\n")]
    [InlineData("Describe 'd' {\n It 'i' -Focus {} }", "A parameter cannot", "Some.Tests.ps1:2 char:9\n")]
    public void A_refusal_says_where(string text, string message, string position)
    {
        var refusal = TestFile.Refused(text);
        Assert.Contains(message, refusal, StringComparison.Ordinal);
        Assert.Contains(position, refusal, StringComparison.Ordinal);
    }
}
