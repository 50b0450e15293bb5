using UnslothMerge;
using UnslothMerge.Bench.Commands;

var root = new RootCommand("Makes models and adapters of real shapes, and measures the merge against cp. Without a command: run.")
{
    RunCommand.Create(), CompareCommand.Create(), SessionCommand.Create(), MemoryCommand.Create(), GenerateCommand.Create(),
        AdapterCommand.Create(), PlanningCommand.Create(), PartsCommand.Create(),
        HubCommand.Create(),
};

try
{
    return await root.Parse(args.Length == 0 ? ["run"] : args)
        .InvokeAsync(new InvocationConfiguration { EnableDefaultExceptionHandler = false });
}
catch (Exception e) when (e is MergeException or IOException or InvalidOperationException)
{
    await Console.Error.WriteLineAsync(e.Message);
    return 1;
}
catch (OperationCanceledException)
{
    return 130;
}
