using SharpFuzz;
using UnslothMerge;

// afl-fuzz (Debian: afl++) or libfuzzer-dotnet changes the bytes that a reader gets, and keeps what reaches new code. Whatever they are,
// the reader must end with data or a MergeException.
//
//   dotnet build tests/UnslothMerge.Fuzz && cd artifacts/bin/UnslothMerge.Fuzz/debug
//   dotnet tool install SharpFuzz.CommandLine --tool-path . && ./sharpfuzz UnslothMerge.Engine.dll
//   AFL_SKIP_BIN_CHECK=1 afl-fuzz -i examples -o found -t 10000 -m none dotnet unslothmerge-fuzz.dll header
//
// examples is a folder of small files to begin with. A file of found/default/crashes again: dotnet unslothmerge-fuzz.dll header FILE

var readers = new Dictionary<string, Action<string>>
{
    ["header"] = path => SafetensorsFile.Open(path),
    ["pickle"] = path => TorchFile.Open(path),
    ["json"] = path => JsonFile.Read(path, MergeError.InvalidModel),
};
if (args.Length == 0 || !readers.TryGetValue(args[0], out var read))
{
    Console.Error.WriteLine($"usage: unslothmerge-fuzz {string.Join('|', readers.Keys)} [FILE]");
    return 2;
}

if (args.Length > 1)
{
    Try(args[1]);
    return 0;
}

var folder = Directory.CreateTempSubdirectory("unslothmerge-fuzz-");
var input = Path.Combine(folder.FullName, "input");
Fuzzer.OutOfProcess.Run(stream =>
{
    using (var file = File.Create(input))
    {
        stream.CopyTo(file);
    }

    Try(input);
});
return 0;

void Try(string path)
{
    try
    {
        read(path);
    }
    catch (MergeException)
    {
        // What a user can act on.
    }
}
