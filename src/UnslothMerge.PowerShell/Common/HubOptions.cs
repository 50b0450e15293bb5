using System.Net;
using System.Security;
using UnslothMerge.Hub;

namespace UnslothMerge.PowerShell.Common;

/// <summary>What a command says of models on the Hub beside their names.</summary>
internal sealed record HubOptions
{
    /// <summary>True if the cache must do.</summary>
    public bool Offline { get; init; }

    /// <summary>The token; null for what the environment offers.</summary>
    public SecureString? Token { get; init; }

    /// <summary>A client that lives as long as something that it gave.</summary>
    public HubClient Open()
    {
        var settings = HubSettings.Read();
        return new HubClient(
            settings with { Offline = settings.Offline || Offline },
            Token is null ? null : new HubToken(new NetworkCredential("", Token).Password, "-Token"));
    }

    /// <summary>The revision of the one name that has none; null if none is given.</summary>
    public string? Revision { get; init; }

    /// <summary>The folder of the one adapter that has none; null if none is given.</summary>
    public string? Subfolder { get; init; }

    /// <summary>Puts revision and folder into the names that they belong to.</summary>
    public (string? Base, IReadOnlyList<string> Adapters) Complete(string? @base, IReadOnlyList<string> adapters)
    {
        var endpoint = HubSettings.Read().Endpoint;
        adapters = With(adapters, Subfolder, nameof(Subfolder), r => r.Folder is null, r => r with { Folder = Subfolder });
        var all = With(@base is null ? adapters : [@base, .. adapters], Revision, nameof(Revision), r => r.Revision is null,
            r => r with { Revision = Revision });
        return @base is null ? (null, all) : (all[0], [.. all.Skip(1)]);

        IReadOnlyList<string> With(IReadOnlyList<string> names, string? value, string parameter, Func<HubReference, bool> lacks,
            Func<HubReference, HubReference> add)
        {
            var open = value is null ? [] : names
                .Select((n, i) => (Reference: Path.Exists(n) ? null : HubReference.Parse(n, endpoint, bare: true), Index: i))
                .Where(n => n.Reference is not null && lacks(n.Reference)).ToList();
            return value is null ? names
                : open is [var (reference, index)] ? [.. names.Select((n, i) => i == index ? add(reference!).ToString() : n)]
                : throw new MergeException(
                    MergeError.InvalidOption,
                    open.Count == 0 ? $"-{parameter} is given, but there is no name of the Hub that it could belong to."
                        : $"-{parameter} could belong to each of {string.Join(", ", open.Select(o => $"'{o.Reference}'"))}.",
                    parameter, "Write it into the name: org/name/folder@revision.");
        }
    }
}
