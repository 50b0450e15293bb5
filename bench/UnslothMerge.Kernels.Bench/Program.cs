using BenchmarkDotNet.Columns;
using BenchmarkDotNet.Configs;
using BenchmarkDotNet.Jobs;
using BenchmarkDotNet.Running;
using BenchmarkDotNet.Toolchains.InProcess.Emit;
using UnslothMerge.Kernels.Bench;

// In process: BenchmarkDotNet's own build of a child project would need the repository's output paths.
IConfig config = DefaultConfig.Instance
    .AddJob(Job.ShortRun.WithToolchain(InProcessEmitToolchain.Instance).AsDefault())
    .AddColumn(new RateColumn("GB/s"), new RateColumn("GFLOP/s"))
    .HideColumns(Column.Error, Column.StdDev, Column.RatioSD, Column.Job);
BenchmarkSwitcher.FromAssembly(typeof(RateColumn).Assembly).Run(args.Length == 0 ? ["--filter", "*"] : args, config);
