namespace UnslothMerge.Bench.Commands;

/// <summary><c>adapter</c>: a LoRA adapter of random numbers.</summary>
internal static class AdapterCommand
{
    public static Command Create()
    {
        var (shape, type, directory) = (Options.Shape(), Options.DType("f32", "bf16", "f16"), Options.Out());
        var rank = new Option<int>("--rank") { Description = "The rank.", DefaultValueFactory = _ => 16 };
        var dora = new Option<bool>("--dora") { Description = "With magnitude vectors." };

        var sparse = Options.Sparse();

        var command = new Command("adapter", "Makes a LoRA adapter on all linear layers.") { shape, rank, directory, type, dora, sparse };
        command.SetAction((parsed, cancellation) =>
        {
            var bytes = AdapterGenerator.Generate(
                ModelShape.Of(parsed.GetValue(shape)!), parsed.GetValue(rank), parsed.GetValue(directory)!,
                Options.TypeOf(parsed.GetValue(type)!), parsed.GetValue(dora), parsed.GetValue(sparse), cancellation);
            Console.WriteLine($"{parsed.GetValue(directory)}: {ByteSize.Text(bytes)}");
            return Task.CompletedTask;
        });
        return command;
    }
}
