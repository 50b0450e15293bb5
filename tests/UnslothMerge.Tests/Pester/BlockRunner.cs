using System.Management.Automation;

namespace UnslothMerge.Tests.Pester;

/// <summary>Runs the tests of a block and gives every one its outcome.</summary>
internal sealed class BlockRunner(Session session, TestDrive drive)
{
    /// <summary>Runs the block whose scope <paramref name="here"/> is in.</summary>
    public void Run(PSCmdlet here, Block block)
    {
        foreach (var it in block.Its.Where(it => it.Skip is not null))
        {
            it.Outcome = new Outcome(Result.Skipped, it.Skip!);
        }

        // As in Pester: without a test to run neither BeforeAll nor AfterAll runs.
        if (block.Its.All(it => it.Outcome is not null))
        {
            return;
        }

        var before = drive.Snapshot();
        if (Failing(here, block, Setup.BeforeAll) is { } error)
        {
            // None of the tests below can be trusted now.
            Fail(block.Its.Where(it => it.Outcome is null), error);
        }
        else
        {
            foreach (var item in block.Items.Where(item => item.Skip is null))
            {
                session.Scope.New(here, inside =>
                {
                    Scope.Set(inside, item.Iteration);
                    if (item is Block inner)
                    {
                        Run(inside, inner);
                    }
                    else
                    {
                        Run(inside, (It)item);
                    }
                });
            }
        }

        // Pester fails the block for this, but a block is no test here: so its tests.
        if (Failing(here, block, Setup.AfterAll) is { } late)
        {
            Fail(block.Its.Where(it => it.Outcome is { Result: Result.Passed }), late);
        }

        drive.Restore(before);
    }

    private static void Fail(IEnumerable<It> its, string error)
    {
        foreach (var it in its)
        {
            it.Outcome = new Outcome(Result.Failed, error);
        }
    }

    /// <summary>Runs a setup of the block; its error, or null.</summary>
    private static string? Failing(PSCmdlet here, Block block, Setup setup)
    {
        try
        {
            if (block.Setups.TryGetValue(setup, out var body))
            {
                Scope.Dot(here, body);
            }

            return null;
        }
        catch (Exception error) when (error is not PipelineStoppedException)
        {
            return $"{setup} failed: {Failure.Text(error)}";
        }
    }

    private void Run(PSCmdlet here, It it)
    {
        session.InIt = true;
        try
        {
            it.Outcome = Try(here, it);
            foreach (var block in it.Parent!.Path.Reverse())
            {
                if (Failing(here, block, Setup.AfterEach) is { } error)
                {
                    it.Outcome = new Outcome(
                        Result.Failed,
                        it.Outcome.Result == Result.Failed ? $"{it.Outcome.Detail}\n{error}" : error);
                }
            }
        }
        finally
        {
            session.InIt = false;
        }
    }

    private static Outcome Try(PSCmdlet here, It it)
    {
        try
        {
            foreach (var block in it.Parent!.Path)
            {
                if (block.Setups.TryGetValue(Setup.BeforeEach, out var before))
                {
                    Scope.Dot(here, before);
                }
            }

            Scope.Dot(here, it.Body);
            return new Outcome(Result.Passed);
        }
        catch (Exception error) when (error is not PipelineStoppedException)
        {
            return Failure.Record(error).Exception is ItSkippedException skipped
                ? new Outcome(Result.Skipped, skipped.Message)
                : new Outcome(Result.Failed, Failure.Text(error));
        }
    }
}
