namespace UnslothMerge.Help;

/// <summary>An example of a page: what one wants, what one types, and what one should know about it.</summary>
internal sealed record HelpExample(string Title, string Code, IReadOnlyList<string> Remarks);

/// <summary>A cmdlet's page: <c># Name</c>, the description in paragraphs, <c>## Examples</c> with a <c>### title</c>, a block of code and
/// remarks each, and <c>## Links</c>, a list of cmdlets, topics and addresses.</summary>
internal sealed partial record HelpPage(IReadOnlyList<string> Description, IReadOnlyList<HelpExample> Examples, IReadOnlyList<string> Links)
{
    public static HelpPage Load(string folder, string cmdlet)
    {
        var path = Path.Combine(folder, $"{cmdlet}.md");
        if (!File.Exists(path))
        {
            throw new HelpException(path, $"{cmdlet} has no page. Write one like its neighbours: description, examples, links.");
        }

        var parts = Sections(File.ReadAllText(path), "## ");
        var examples = Part("Examples") is { } text ? Sections(text, "### ").Skip(1).Select(s => Example(path, s)).ToList() : [];
        return new HelpPage(Paragraphs(parts[0].Split('\n', 2)[1]), examples,
            [.. (Part("Links") ?? "").Split('\n', StringSplitOptions.RemoveEmptyEntries).Select(l => l.TrimStart('-', ' ').Trim('`'))]);

        string? Part(string title) =>
            parts.Skip(1).FirstOrDefault(p => p.StartsWith(title + '\n', StringComparison.Ordinal))?[(title.Length + 1)..];
    }

    private static HelpExample Example(string path, string text)
    {
        var match = Fence().Match(text);
        return match.Success
            ? new HelpExample(match.Groups["title"].Value.Trim(), match.Groups["code"].Value.TrimEnd(),
                Paragraphs(match.Groups["remarks"].Value))
            : throw new HelpException(path, $"The example '{text.Split('\n')[0]}' has no block of code.");
    }

    // Headings in a block of code would be comments of PowerShell, which have one '#'.
    private static string[] Sections(string text, string heading) =>
        [.. $"\n{text.ReplaceLineEndings("\n")}".Split($"\n{heading}").Select(s => s.TrimStart('\n'))];

    private static List<string> Paragraphs(string text) =>
        [.. text.Split("\n\n", StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries)
            .Select(p =>
                p.Replace("\n- ", "\r- ", StringComparison.Ordinal).Replace('\n', ' ').Replace('\r', '\n')
                .Replace("`", "", StringComparison.Ordinal))];

    [GeneratedRegex(@"^(?<title>[^\n]+)\n.*?```powershell\n(?<code>.*?)```(?<remarks>.*)$", RegexOptions.Singleline)]
    private static partial Regex Fence();
}
