namespace UnslothMerge.Hub;

/// <summary>What the environment says of the Hub, as its own tools read it.</summary>
internal sealed record HubSettings
{
    /// <summary>Where the Hub is: HF_ENDPOINT.</summary>
    public Uri Endpoint { get; init; } = new("https://huggingface.co");

    /// <summary>Where its tools keep their files: HF_HOME.</summary>
    public required string Home { get; init; }

    /// <summary>The cache of downloads: HF_HUB_CACHE.</summary>
    public required string Cache { get; init; }

    /// <summary>The file with the token: HF_TOKEN_PATH.</summary>
    public required string TokenPath { get; init; }

    /// <summary>True if nothing may be asked of the Hub: HF_HUB_OFFLINE.</summary>
    public bool Offline { get; init; }

    /// <summary>True if the cache may hold symbolic links: not HF_HUB_DISABLE_SYMLINKS.</summary>
    public bool Symlinks { get; init; } = true;

    /// <summary>True if a token is sent that nobody gave as a parameter: not HF_HUB_DISABLE_IMPLICIT_TOKEN.</summary>
    public bool ImplicitToken { get; init; } = true;

    /// <summary>True if progress is shown: not HF_HUB_DISABLE_PROGRESS_BARS.</summary>
    public bool ShowsProgress { get; init; } = true;

    /// <summary>How long an answer about a file may take: HF_HUB_ETAG_TIMEOUT.</summary>
    public TimeSpan MetadataTimeout { get; init; } = TimeSpan.FromSeconds(10);

    /// <summary>How long the next bytes of a download may take: HF_HUB_DOWNLOAD_TIMEOUT.</summary>
    public TimeSpan DownloadTimeout { get; init; } = TimeSpan.FromSeconds(10);

    /// <summary>Gives a variable of the environment; null if it is not set or empty.</summary>
    public required Func<string, string?> Variable { get; init; }

    /// <summary>Reads the environment of the process, or another.</summary>
    public static HubSettings Read(Func<string, string?>? environment = null)
    {
        environment ??= Environment.GetEnvironmentVariable;
        string? Get(string name) => environment(name) is { Length: > 0 } value ? value : null;
        string? Folder(string name) => Get(name) is { } value ? Expanded(value) : null;
        bool IsSet(string name) => Get(name)?.ToUpperInvariant() is "1" or "ON" or "YES" or "TRUE";
        TimeSpan? Seconds(string name) =>
            double.TryParse(Get(name), NumberStyles.Float, CultureInfo.InvariantCulture, out var s) && s > 0
                ? TimeSpan.FromSeconds(s) : null;

        var home = Folder("HF_HOME") ?? Path.Combine(Folder("XDG_CACHE_HOME") ?? Path.Combine(UserHome, ".cache"), "huggingface");
        var defaults = new HubSettings { Home = home, Cache = "", TokenPath = "", Variable = Get };
        return defaults with
        {
            Endpoint = Get("HF_ENDPOINT") is { } endpoint ? Address(endpoint) : defaults.Endpoint,
            Cache = Folder("HF_HUB_CACHE") ?? Folder("HUGGINGFACE_HUB_CACHE") ?? Path.Combine(home, "hub"),
            TokenPath = Folder("HF_TOKEN_PATH") ?? Path.Combine(home, "token"),
            Offline = Get("HF_HUB_OFFLINE") is null ? IsSet("TRANSFORMERS_OFFLINE") : IsSet("HF_HUB_OFFLINE"),
            Symlinks = !IsSet("HF_HUB_DISABLE_SYMLINKS"),
            ImplicitToken = !IsSet("HF_HUB_DISABLE_IMPLICIT_TOKEN"),
            ShowsProgress = !IsSet("HF_HUB_DISABLE_PROGRESS_BARS"),
            MetadataTimeout = Seconds("HF_HUB_ETAG_TIMEOUT") ?? defaults.MetadataTimeout,
            DownloadTimeout = Seconds("HF_HUB_DOWNLOAD_TIMEOUT") ?? defaults.DownloadTimeout,
        };
    }

    private static string UserHome => Environment.GetFolderPath(Environment.SpecialFolder.UserProfile);

    private static string Expanded(string path) =>
        Environment.ExpandEnvironmentVariables(path.StartsWith('~') ? UserHome + path[1..] : path);

    private static Uri Address(string text) =>
        Uri.TryCreate(text.TrimEnd('/'), UriKind.Absolute, out var address) && address.Scheme is "http" or "https" ? address
            : throw new MergeException(MergeError.InvalidOption, $"HF_ENDPOINT is '{text}', which is no address of a Hub.", "HF_ENDPOINT",
                "Set it to an address such as https://huggingface.co, or remove it.");
}
