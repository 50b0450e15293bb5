using UnslothMerge.Hub.Cache;

namespace UnslothMerge.Recipes;

/// <summary>Looks for directories that merge.json names by hashes: it holds no local paths.</summary>
internal sealed class SourceSearch(string model, string location)
{
    private const int MaxDepth = 4;

    // Of each place; enough for any folder of models, and a moment for a whole disk.
    private const int MaxDirectories = 5_000;

    private static readonly EnumerationOptions Readable =
        new() { IgnoreInaccessible = true, AttributesToSkip = FileAttributes.Hidden | FileAttributes.System };

    private readonly Lazy<IReadOnlyList<string>> _near = new(() => [.. Roots(model, location).SelectMany(Below).Distinct()]);

    /// <summary>Where it looks, in words.</summary>
    public IEnumerable<string> Places =>
        Roots(model, location).Select(r => $"the folders below '{r}'").Prepend($"the cache '{HubCache.Location}'");

    /// <summary>The first directory that is meant; null if there is none.</summary>
    public string? Find(JsonObject recorded, Func<string, bool> isMeant) => Cached(recorded).Concat(_near.Value).FirstOrDefault(d =>
    {
        try
        {
            return isMeant(d);
        }
        catch (MergeException)
        {
            // What cannot be read is another directory than the one that was merged.
            return false;
        }
    });

    private static IEnumerable<string> Cached(JsonObject recorded)
    {
        if (recorded.String("id") is { } id && HubCache.Find(id) is { } snapshot)
        {
            var commit = Path.Combine(Path.GetDirectoryName(snapshot)!, recorded.String("commit") ?? "");
            return new[] { commit, snapshot }.Where(Directory.Exists).Distinct();
        }

        return [];
    }

    private static IEnumerable<string> Roots(string model, string location) =>
        new[] { Path.GetDirectoryName(Path.TrimEndingDirectorySeparator(model)), location }.OfType<string>().Distinct();

    private static List<string> Below(string root)
    {
        var (all, level) = (new List<string>(), new List<string> { root });
        for (var depth = 0; depth <= MaxDepth && level.Count > 0 && all.Count < MaxDirectories; depth++)
        {
            all.AddRange(level);
            level = [.. level.SelectMany(d => Directory.EnumerateDirectories(d, "*", Readable)).Take(MaxDirectories).Order(
                StringComparer.Ordinal)];
        }

        return all;
    }
}
