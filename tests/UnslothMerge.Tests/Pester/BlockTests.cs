using Xunit;

namespace UnslothMerge.Tests.Pester;

public sealed class BlockTests
{
    [Fact]
    public void Variables_of_BeforeAll_are_seen_inside_and_nowhere_else() => TestFile.Passes("""
        BeforeAll { $file = 1 }
        Describe 'a' {
            BeforeAll { $block = 2; $both = 'a' }
            It 'sees them' { $file, $block, $both | Should -Be 1, 2, 'a' }
            Context 'inside' {
                BeforeAll { $inner = 3; $both = 'inside' }
                It 'sees more' { $file, $block, $inner, $both | Should -Be 1, 2, 3, 'inside' }
            }
            It 'does not see the inner ones' { $inner | Should -BeNullOrEmpty; $both | Should -Be 'a' }
        }
        Describe 'b' {
            It 'sees the file''s only' { $file | Should -Be 1; $block, $both | Should -Be $null, $null }
        }
        """);

    [Fact]
    public void Functions_of_BeforeAll_are_seen_inside() => TestFile.Passes("""
        BeforeAll { function Get-One { 1 } }
        Describe 'a' {
            BeforeAll { function Get-Two { (Get-One) + 1 } }
            It 'i' { Get-Two | Should -Be 2 }
        }
        Describe 'b' {
            It 'i' { { Get-Two } | Should -Throw -ErrorId CommandNotFoundException; Get-One | Should -Be 1 }
        }
        """);

    [Fact]
    public void Assignments_do_not_leak_between_tests() => TestFile.Passes("""
        Describe 'd' {
            BeforeAll { $x = 1; $list = @('a') }
            It 'sets' { $x = 2; $y = 3; $list += 'b'; $x | Should -Be 2 }
            It 'does not see it' { $x | Should -Be 1; $y | Should -Be $null; $list | Should -Be 'a' }
            Context 'inside' {
                It 'neither' { $x | Should -Be 1; $y | Should -Be $null }
            }
        }
        """);

    [Fact]
    public void Script_variables_last_for_the_file() => TestFile.Passes("""
        $script:early = 'discovery'
        Describe 'd' {
            BeforeAll { $script:count = 1 }
            It 'adds' { $script:count++ ; $script:count | Should -Be 2; $count | Should -Be 2 }
            It 'sees it' { $script:count | Should -Be 2; $global:count | Should -Be $null }
            It 'sees none of discovery' { $script:early, $early | Should -Be $null, $null }
        }
        """);

    [Fact]
    public void Variables_of_discovery_are_not_seen_by_tests() => TestFile.Passes("""
        BeforeDiscovery { $names = 'one', 'two' }
        $plain = 1
        Describe '<_>' -ForEach $names {
            $inBody = 1
            It 'i' -Skip:($names.Count -ne 2 -or $plain -ne 1 -or $inBody -ne 1) {
                $names, $plain, $inBody | Should -Be $null, $null, $null
            }
        }
        """);

    [Fact]
    public void Setups_run_in_order()
    {
        var order = """
            BeforeAll { $log = [Collections.Generic.List[string]]::new(); $log.Add('file') }
            Describe 'a' {
                BeforeAll { $log.Add('A') }
                BeforeEach { $log.Add('a'); $each = 1 }
                AfterEach { $log.Add("/a$each") }
                AfterAll { $log.Add('/A') }
                It 'first' { $log.Add("one$each") }
                Context 'b' {
                    BeforeAll { $log.Add('B') }
                    BeforeEach { $log.Add('b') }
                    AfterEach { $log.Add('/b') }
                    AfterAll { $log.Add('/B') }
                    It 'second' { $log.Add('two') }
                }
                It 'third' { $log.Add('three'); $each = 2 }
            }
            Describe 'c' {
                It 'end' { "$log" | Should -Be 'file A a one1 /a1 B a b two /b /a1 /B a three /a2 /A' }
            }
            """;
        TestFile.Passes(order);
    }

    [Fact]
    public void A_failing_test_says_where()
    {
        var outcomes = TestFile.Run("""
            Describe 'd' {
                It 'fails' {
                    $x = 1
                    $x | Should -Be 2 -Because 'of this'
                }
                It 'passes' { }
            }
            """);
        Assert.Equal(Result.Failed, outcomes["d.fails"].Result);
        Assert.StartsWith("Expected 1 to be 2, because of this.\nAt ", outcomes["d.fails"].Detail, StringComparison.Ordinal);
        Assert.Contains("Some.Tests.ps1:4 char:14\n", outcomes["d.fails"].Detail, StringComparison.Ordinal);
        Assert.DoesNotContain("pester-scope", outcomes["d.fails"].Detail, StringComparison.Ordinal);
        Assert.Equal(Result.Passed, outcomes["d.passes"].Result);
    }

    [Theory]
    [InlineData("throw 'x'", "x")]
    [InlineData("Get-Missing", "The term 'Get-Missing'")]
    [InlineData("[int] 'x'", "Cannot convert value \"x\"")]
    [InlineData("[IO.File]::ReadAllText('/no/such')", "Exception calling")]
    [InlineData("Get-Module -Nope", "A parameter cannot be found")]
    [InlineData("Import-Module ./missing.psd1 -ErrorAction Stop", "The specified module")]
    [InlineData("$ErrorActionPreference = 'Stop'; Import-Module ./missing.psd1", "The specified module")]
    [InlineData("$ErrorActionPreference = 'Ignore'; 1 | Should -Be 2", "Expected 1 to be 2")]
    [InlineData("$ErrorActionPreference = 'SilentlyContinue'; 1 | Should -Be 2", "Expected 1 to be 2")]
    [InlineData("& { . { 1 | Should -Be 2 } }", "Expected 1 to be 2")]
    [InlineData("function f { process { $_ | Should -Be 2 } }; 2, 1 | f", "Expected 1 to be 2")]
    [InlineData("2, 1 | ForEach-Object { $_ | Should -Be 2 }", "Expected 1 to be 2")]
    [InlineData("(1..3).ForEach({ $_ | Should -BeLessThan 3 })", "Expected 3 to be less than 3")]
    [InlineData("break", "break, continue or exit")]
    [InlineData("continue", "break, continue or exit")]
    [InlineData("exit", "break, continue or exit")]
    [InlineData("exit 0", "break, continue or exit")]
    [InlineData("foreach ($i in 1..2) { & { break } }; 1 | Should -Be 2", "Expected 1 to be 2")]
    [InlineData("Mock Get-Command { }", "The term 'Mock'")]
    [InlineData("InModuleScope UnslothMerge { }", "The term 'InModuleScope'")]
    [InlineData("Should-Be 1 1", "The term 'Should-Be'")]
    [InlineData("Set-ItResult -Inconclusive", "A parameter cannot be found")]
    [InlineData("Set-ItResult -Skipped:$false", "Set-ItResult works in an It")]
    [InlineData("It 'inner' { }", "It cannot be used here")]
    [InlineData("Describe 'inner' { }", "Describe cannot be used here")]
    [InlineData("BeforeEach { }", "BeforeEach cannot be used here")]
    [InlineData("Invoke-PesterStep", "Invoke-PesterStep is not for")]
    public void An_error_fails_the_test(string body, string message)
    {
        var outcomes = TestFile.Run($$"""
            Describe 'd' {
                It 'fails' { {{body}}
                    Set-ItResult -Skipped
                }
                It 'runs still' { }
            }
            """);
        Assert.Equal(Result.Failed, outcomes["d.fails"].Result);
        Assert.StartsWith(message, outcomes["d.fails"].Detail, StringComparison.Ordinal);
        Assert.Equal(Result.Passed, outcomes["d.runs still"].Result);
    }

    [Fact]
    public void An_error_that_ends_nothing_fails_nothing() =>
        TestFile.Passes("Describe 'd' { It 'i' { Import-Module ./missing.psd1; $Error.Count | Should -Be 1 } }");

    [Fact]
    public void A_caught_error_fails_nothing() =>
        TestFile.Passes("Describe 'd' { It 'i' { try { 1 | Should -Be 2 } catch { $caught = $_ }; $caught | Should -Not -Be $null } }");

    [Fact]
    public void A_failing_BeforeAll_fails_all_below()
    {
        var outcomes = TestFile.Run("""
            Describe 'a' {
                BeforeAll { throw 'no luck' }
                AfterAll { $script:after = 1 }
                It 'i' { }
                It 'skipped' -Skip { }
                Context 'b' {
                    BeforeAll { $script:inner = 1 }
                    It 'i' { }
                }
            }
            Describe 'c' { It 'i' { $after, $inner | Should -Be 1, $null } }
            """);
        Assert.StartsWith("BeforeAll failed: no luck\nAt ", outcomes["a.i"].Detail, StringComparison.Ordinal);
        Assert.Equal(Result.Failed, outcomes["a.i"].Result);
        Assert.Equal(Result.Failed, outcomes["a.b.i"].Result);
        Assert.Equal(Result.Skipped, outcomes["a.skipped"].Result);
        Assert.Equal(Result.Passed, outcomes["c.i"].Result);
    }

    [Fact]
    public void A_failing_BeforeAll_of_the_file_fails_everything() => Assert.All(
        TestFile.Run("BeforeAll { . \"$PSScriptRoot/missing.ps1\" }\nDescribe 'a' { It 'i' { } }\nDescribe 'b' { It 'i' { } }"),
        each => Assert.Equal(Result.Failed, each.Value.Result));

    [Fact]
    public void A_failing_AfterAll_fails_what_passed()
    {
        var outcomes = TestFile.Run("Describe 'a' { AfterAll { throw 'late' }\nIt 'i' { } }\nDescribe 'b' { It 'i' { } }");
        Assert.StartsWith("AfterAll failed: late", outcomes["a.i"].Detail, StringComparison.Ordinal);
        Assert.Equal(Result.Passed, outcomes["b.i"].Result);
    }

    [Fact]
    public void A_failing_BeforeEach_fails_the_test_and_AfterEach_still_runs()
    {
        var outcomes = TestFile.Run("""
            Describe 'a' {
                BeforeEach { if ($fail) { throw 'early' } }
                AfterEach { $script:after++ }
                It 'i' -ForEach @{ fail = $true } { $script:ran = 1 }
                It 'j' { $after, $ran | Should -Be 1, $null }
            }
            """);
        Assert.StartsWith("early\nAt ", outcomes["a.i"].Detail, StringComparison.Ordinal);
        Assert.Equal(Result.Failed, outcomes["a.i"].Result);
        Assert.Equal(Result.Passed, outcomes["a.j"].Result);
    }

    [Fact]
    public void A_failing_AfterEach_fails_the_test()
    {
        var outcomes = TestFile.Run("""
            Describe 'a' {
                AfterEach { throw 'late' }
                It 'passes' { }
                It 'fails' { throw 'early' }
            }
            """);
        Assert.StartsWith("AfterEach failed: late", outcomes["a.passes"].Detail, StringComparison.Ordinal);
        Assert.StartsWith("early", outcomes["a.fails"].Detail, StringComparison.Ordinal);
        Assert.Contains("AfterEach failed: late", outcomes["a.fails"].Detail, StringComparison.Ordinal);
    }

    [Fact]
    public void TestDrive_holds_what_blocks_around_put_there() => TestFile.Passes("""
        BeforeAll {
            [IO.Directory]::Exists($TestDrive) | Should -BeTrue
            [IO.File]::WriteAllText([IO.Path]::Combine($TestDrive, 'file'), '')
            function Get-Name { [IO.Directory]::GetFileSystemEntries($TestDrive).ForEach({ [IO.Path]::GetFileName($_) }) }
        }
        Describe 'a' {
            BeforeAll {
                $folder = [IO.Directory]::CreateDirectory([IO.Path]::Combine($TestDrive, 'folder')).FullName
                [IO.File]::WriteAllText([IO.Path]::Combine($folder, 'x'), '')
                $null = [IO.Directory]::CreateSymbolicLink([IO.Path]::Combine($TestDrive, 'link'), $folder)
            }
            It 'i' { [IO.File]::WriteAllText("$TestDrive/it", ''); Get-Name | Should -HaveCount 4 }
            It 'j' { "$TestDrive/it" | Should -Exist }
        }
        Describe 'b' { It 'i' { Get-Name | Should -Be 'file' } }
        """);

    [Fact]
    public void TestDrive_goes_with_the_file()
    {
        var outcomes = TestFile.Run("Describe 'd' { It 'i' { Set-ItResult -Skipped -Because $TestDrive } }");
        var folder = outcomes["d.i"].Detail;
        Assert.True(Path.IsPathFullyQualified(folder));
        Assert.False(Directory.Exists(folder));
    }
}
