using YamlDotNet.Core;

namespace UnslothMerge.Models;

/// <summary>A README.md: what it states in YAML, and its text.</summary>
internal sealed partial class CardText
{
    /// <summary>The name of the file.</summary>
    public const string FileName = "README.md";

    private const string Begin = "<!-- merge: begin (rewritten by every save) -->", End = "<!-- merge: end -->";
    private static readonly UTF8Encoding Utf8 = new(encoderShouldEmitUTF8Identifier: false, throwOnInvalidBytes: true);

    private CardText(FrontMatter facts, string body)
    {
        Facts = facts;
        Body = body;
    }

    /// <summary>What it states in YAML.</summary>
    public FrontMatter Facts { get; }

    /// <summary>The text below, as it is.</summary>
    public string Body { get; private set; }

    /// <summary>A card with a title, and perhaps a sentence below it.</summary>
    public static CardText New(string title, string? text = null) =>
        new(new FrontMatter(), $"\n# {title}\n{(text is null ? "" : $"\n{text}\n")}");

    /// <summary>Reads the card of a directory; null if it has none.</summary>
    public static CardText? Read(string directory)
    {
        var path = Path.Combine(directory, FileName);
        if (!File.Exists(path))
        {
            return null;
        }

        try
        {
            var text = Utf8.GetString(FolderFile.ReadAllBytes(path, Limits.CardBytes)).TrimStart('\uFEFF');
            var block = Block().Match(text);
            if (block.Groups["yaml"].Length > Limits.YamlLength)
            {
                throw new IOException($"its YAML has {block.Groups["yaml"].Length} characters; at most {Limits.YamlLength} are read.");
            }

            return new CardText(block.Success ? new FrontMatter(block.Groups["yaml"].Value) : new FrontMatter(), text[block.Length..]);
        }
        catch (Exception e) when (e is YamlException or IOException or UnauthorizedAccessException or DecoderFallbackException)
        {
            var where = e is YamlException yaml ? $" (line {yaml.Start.Line + 1})" : "";
            throw new MergeException(MergeError.InvalidModel, $"'{path}' is not a model card that can be read: {e.Message}{where}", path,
                "Correct the YAML between its two lines '---', or move the file away.", e);
        }
    }

    /// <summary>Reads the card of a directory; null if it has none, or a loss of power has left nothing of it, or zeros.</summary>
    public static CardText? ReadUnlessLost(string directory) => Path.Combine(directory, FileName) is var path
        && FileStatus.Of(path) is { Kind: FileKind.Regular } status
        && (status.Length == 0 || ZeroedFile.Begins(path) || ZeroedFile.Ends(path)) ? null : Read(directory);

    /// <summary>Puts a section between marks that a reader does not see: in place of the one that an earlier save wrote, else at the
    /// end.</summary>
    public void SetSection(string markdown)
    {
        var section = $"{Begin}\n{markdown}{End}\n";
        var (begin, end) = (Body.IndexOf(Begin, StringComparison.Ordinal), Body.IndexOf(End, StringComparison.Ordinal));
        Body = begin >= 0 && end > begin
            ? string.Concat(Body.AsSpan(0, begin), section.AsSpan(0, section.Length - 1), Body.AsSpan(end + End.Length))
            : $"{Body}{(Body.Length == 0 || Body.EndsWith('\n') ? "" : "\n")}\n{section}";
    }

    public override string ToString() => $"---\n{Facts.Text}---\n{Body}";

    // As the Hub's own library finds it.
    [GeneratedRegex(@"\A\s*---[ \t]*\r?\n(?<yaml>.*?)(\r?\n|(?<=\n))---[ \t]*(\r?\n|\z)",
        RegexOptions.Singleline | RegexOptions.ExplicitCapture)]
    private static partial Regex Block();
}
