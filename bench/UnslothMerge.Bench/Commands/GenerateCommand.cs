namespace UnslothMerge.Bench.Commands;

/// <summary><c>generate</c>: a model of random numbers.</summary>
internal static class GenerateCommand
{
    public static Command Create()
    {
        var (shape, type, directory) = (Options.Shape(), Options.DType("bf16", "f16", "f32"), Options.Out());
        var maxShard = new Option<string>("--max-shard") { Description = "The largest shard.", DefaultValueFactory = _ => "5GB" };
        maxShard.Validators.Add(result =>
        {
            if (!ByteSize.TryParse(result.GetValueOrDefault<string>(), out var bytes) || bytes < 1)
            {
                result.AddError("--max-shard is a size such as 5GB.");
            }
        });
        var sparse = Options.Sparse();

        var command = new Command("generate", "Makes a Llama-shaped model of random numbers.") { shape, type, directory, maxShard, sparse };
        command.SetAction((parsed, cancellation) =>
        {
            _ = ByteSize.TryParse(parsed.GetValue(maxShard), out var limit);
            var bytes = ModelGenerator.Generate(
                ModelShape.Of(parsed.GetValue(shape)!), parsed.GetValue(directory)!, Options.TypeOf(parsed.GetValue(type)!), limit,
                parsed.GetValue(sparse), cancellation);
            Console.WriteLine($"{parsed.GetValue(directory)}: {ByteSize.Text(bytes)}");
            return Task.CompletedTask;
        });
        return command;
    }
}
