using System.ComponentModel;
using UnslothMerge.Hub.Publishing;
using UnslothMerge.Tests.Hub.StandIn;
using UnslothMerge.Tests.PowerShell;

namespace UnslothMerge.Tests.Hub;

/// <summary>The Hub's official JavaScript client on the other side: it reads what was published, and the stand-in takes what it
/// uploads.</summary>
public sealed class JavaScriptClientTests : HubTests
{
    private const string Package = "@huggingface/hub@2.17.5";

    private const string Script = """
        import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
        import { dirname, join } from 'node:path';
        import { createRepo, downloadFile, listFiles, uploadFiles } from '@huggingface/hub';
        const [hubUrl, accessToken, repo, copy, out] = process.argv.slice(2);
        const paths = [];
        for await (const file of listFiles({ repo, recursive: true, hubUrl, accessToken })) {
            if (file.type !== 'file') continue;
            const blob = await downloadFile({ repo, path: file.path, hubUrl, accessToken, xet: false });
            mkdirSync(dirname(join(out, file.path)), { recursive: true });
            writeFileSync(join(out, file.path), Buffer.from(await blob.arrayBuffer()));
            paths.push(file.path);
        }
        await createRepo({ repo: copy, hubUrl, accessToken });
        const files = paths.map(path => ({ path, content: new Blob([readFileSync(join(out, path))]) }));
        await uploadFiles({ repo: copy, files, hubUrl, accessToken, useXet: false });
        """;

    [Fact]
    public void It_reads_what_was_published_and_publishes_it_again()
    {
        var folder = Installed();
        var model = Path.Combine(Fixtures.Base("llama-bf16"));
        Server.Objects.PartSize = 5000;
        var files = PublishedFiles.Open(model, null, [], []);
        using (var client = Client())
        {
            var publisher = new Publisher(client, new PublishTarget("org/out"));
            var plan = publisher.Plan([.. files.Select(f => f.Name)], [.. files.Take(1)], null, Stop);
            publisher.Run(plan, files, "Upload", null, Stop);
        }

        // What it uploads is not there yet.
        Server.Objects.HideFromBatch.UnionWith(Server.Objects.Objects.Keys);
        var script = Path.Combine(folder, "interop.mjs");
        File.WriteAllText(script, Script);
        var endpoint = Server.Endpoint.ToString().TrimEnd('/');
        var (exit, output, errors) = PowerShellProcess.Start(
            ["node", script, endpoint, HubServer.WriteToken, "org/out", "org/copy", Temp["read"]]);
        Assert.True(exit == 0, $"{output}\n{errors}");
        Assert.All(files, f =>
        {
            Assert.Equal(f.ReadAll(), File.ReadAllBytes(Path.Combine(Temp["read"], f.Name)));
            Assert.Equal(f.ReadAll(), Server.Read("org/copy", f.Name));
        });
    }

    // Once for a checkout; where that cannot be, the test is skipped by name.
    private static string Installed()
    {
        var folder = Path.Combine(Fixtures.Root, "artifacts", "node");
        if (!Directory.Exists(Path.Combine(folder, "node_modules", "@huggingface", "hub")))
        {
            Directory.CreateDirectory(folder);
            try
            {
                var (exit, _, errors) = PowerShellProcess.Start(
                    ["npm", "install", "--prefix", folder, "--no-audit", "--no-fund", "--fetch-retries=0", Package]);
                Assert.SkipUnless(exit == 0, $"npm cannot install {Package}: {errors.Trim()}");
            }
            catch (Win32Exception)
            {
                Assert.Skip($"There is no Node.js with npm for {Package}.");
            }
        }

        return folder;
    }
}
