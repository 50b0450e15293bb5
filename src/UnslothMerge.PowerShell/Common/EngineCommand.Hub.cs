using UnslothMerge.Execution;
using UnslothMerge.Hub;
using UnslothMerge.Hub.Cache;

namespace UnslothMerge.PowerShell.Common;

/// <content>Names of the Hub, and what they lead to.</content>
public abstract partial class EngineCommand
{
    private HubClient? _client;
    private bool _streams;

    /// <summary>What the command says of the Hub.</summary>
    private protected HubOptions Hub { get; set; } = new();

    /// <summary>Who asks the Hub. Not disposed of with the command: tensors that it emits read through it.</summary>
    private protected HubClient Client => _client ??= Hub.Open();

    /// <summary>Asks whether something may be downloaded; says so where nobody is asked.</summary>
    private protected virtual bool MayDownload(MissingFiles missing)
    {
        if (missing.Now.Count > 0)
        {
            WriteVerbose(DownloadText.Summary(missing) + ".");
        }

        return true;
    }

    /// <summary>Resolves a base; its weights may be read from the Hub only while they are merged.</summary>
    private protected FetchedModel ResolveBase(string name, bool streams)
    {
        _streams = streams;
        try
        {
            var found = ResolveOne(name, "Base", HubUse.Base);
            if (streams && HubCache.NameOf(found.Directory) is null)
            {
                Refuse("Stream", $"-Stream has no effect: '{name}' lies on this machine.", "Leave -Stream out, or give a name on the Hub.");
            }

            return found;
        }
        finally
        {
            _streams = false;
        }
    }

    /// <summary>Lets a merge read from the Hub what the disk of the cache cannot hold, and says so.</summary>
    private protected void StreamWithoutRoom(MergePlan plan)
    {
        foreach (var model in PendingDownloads.StreamWithoutRoom(plan.InputFiles))
        {
            WriteWarning($"The cache '{model.Cache.Root}' has no room for '{model}': it is read from the Hub, and not kept.");
        }
    }

    /// <summary>Downloads what a plan reads and the cache does not have, unless it is to be read from the Hub.</summary>
    private protected void Download(MergePlan plan)
    {
        foreach (var (model, files) in PendingDownloads.Of(plan.InputFiles))
        {
            WithHub(model.Client, $"Downloading {model}", progress => PendingDownloads.Run(model, files, progress, Stop));
        }
    }

    /// <summary>Reads a base's config and headers.</summary>
    private protected ModelDirectory Open(FetchedModel found) => Engine(() => ModelDirectory.Open(found.Directory, found.Remote));

    /// <summary>Finds a model on the Hub or in the cache.</summary>
    private protected HubModel Find(HubReference reference) =>
        WithHub(Client, $"Looking for {reference}", _ => HubModel.Find(Client, reference, Stop));

    private protected FetchedModel? FromHub(string name, HubUse use)
    {
        // A name without an account is a path, unless the cache knows it.
        var bare = name.Contains('@', StringComparison.Ordinal) || HubCache.Find(name) is not null;
        if (HubReference.Parse(name, Client.Settings.Endpoint, bare) is not { } reference)
        {
            return null;
        }

        HubModel model;
        try
        {
            model = Find(reference);
        }
        catch (HubException e) when (!name.Contains("://", StringComparison.Ordinal))
        {
            throw new HubException(
                e.Error, $"'{name}' is no directory here. {e.Message}", name, $"Check the path, if a directory is meant. {e.Advice}", e);
        }

        WriteVerbose($"'{name}' is {model} in the cache '{model.Directory}'.");
        model.Streams = _streams;
        return WithHub(Client, $"Downloading {model}", progress => HubFetch.Open(model, use, MayDownload, progress, Stop))
            ?? throw new DownloadDeclinedException();
    }

    private void WithHub(HubClient client, string activity, Action<Action<DownloadProgress>> work) => WithHub(client, activity, progress =>
    {
        work(progress);
        return true;
    });

    // What the Hub and retries say is written on this thread.
    private T WithHub<T>(HubClient client, string activity, Func<Action<DownloadProgress>, T> work)
    {
        using var record = new MergeProgressRecord(WriteProgress, activity, [], TimeProvider.System);
        try
        {
            return work(now =>
            {
                WriteNotices(client);
                if (client.Settings.ShowsProgress)
                {
                    record.Report(new MergeProgress(now.Done, now.Total, now.File, ""));
                }
            });
        }
        finally
        {
            WriteNotices(client);
        }
    }

    /// <summary>Writes what a client has to say: warnings, and verbose output.</summary>
    internal void WriteNotices(HubClient client)
    {
        foreach (var notice in client.TakeNotices())
        {
            if (notice.IsWarning)
            {
                WriteWarning(notice.Text);
            }
            else
            {
                WriteVerbose(notice.Text);
            }
        }
    }
}

/// <summary>The user does not want something downloaded without which the command has nothing to do.</summary>
internal sealed class DownloadDeclinedException : RuntimeException;
