using System.CommandLine;
using UnslothMerge.Gpu;

var device = new Option<DeviceRequest>("--device")
{
    Description = "The device: cuda, cuda:1, or torch-cpu to try this without a GPU.",
    CustomParser = r => DeviceRequest.Parse(r.Tokens[0].Value),
    DefaultValueFactory = _ => new DeviceRequest(DeviceKind.Cuda),
};
var shape = new Option<string>("--shape") { Description = "The model that is merged for the table.", DefaultValueFactory = _ => "1b" };
var rounds = new Option<int>("--rounds") { Description = "The rounds of the table.", DefaultValueFactory = _ => 3 };
var directory = new Option<string>("--directory") { Description = "Where models are made.", DefaultValueFactory = _ => Path.GetTempPath() };
var step = new Option<string?>("--step") { Description = $"One step alone: {string.Join(", ", Step.All.Select(s => s.Name))}." };

var command = new RootCommand("Checks merges on a GPU against the goldens and measures them.") { device, shape, rounds, directory, step };
command.SetAction(parsed =>
{
    var settings = new Settings(parsed.GetValue(device), parsed.GetValue(shape)!, parsed.GetValue(rounds), parsed.GetValue(directory)!);
    return parsed.GetValue(step) is { } name ? Step.All.Single(s => s.Name == name).Run(settings) : Step.RunAll(settings);
});
return command.Parse(args).Invoke();
