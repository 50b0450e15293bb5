using UnslothMerge.IO;
using UnslothMerge.Planning;

namespace UnslothMerge.Execution;

/// <summary>A tensor whose bytes are copied, by reads and writes: copy_file_range holds the output's lock while it reads, and a tensor
/// seldom begins at a block that a file system could share. In a clone there is nothing to do.</summary>
internal sealed class CopyJob : CoreJob
{
    // Several buffers, so that two workers seldom write adjacent ranges.
    private const int PieceBytes = 8 * ExecutionPlan.CopyBytes;

    private readonly ShardOutput _output;
    private readonly InputFiles _files;
    private readonly IReadOnlyList<Part> _parts;

    public CopyJob(WriteTensor write, ShardOutput output, InputFiles files)
        : this(write, output, files, output.File.Has(write) ? [] : [.. write.Verbatim!.SelectMany(Part.Of)])
    {
    }

    private CopyJob(WriteTensor write, ShardOutput output, InputFiles files, IReadOnlyList<Part> parts)
        : base(write, output, parts.Count, residentBytes: 0) => (_output, _files, _parts) = (output, files, parts);

    public override long Run(int piece, WorkerBuffers buffers, CancellationToken stop)
    {
        var (stored, output, start, length) = _parts[piece];
        for (var end = start + length; start < end;)
        {
            var bytes = buffers.Copy[..(int)Math.Min(end - start, buffers.Copy.Length)];
            _files.Read(stored, start, bytes);
            _output.Write(output, start, bytes);
            start += bytes.Length;
        }

        Done();
        return length;
    }

    /// <summary>A byte range of a stored tensor, and the index of the output that it is copied to.</summary>
    private sealed record Part(StoredTensor Stored, int Output, long Start, long Length)
    {
        public static IEnumerable<Part> Of(StoredTensor stored, int output)
        {
            for (var start = 0L; start < stored.Length; start += PieceBytes)
            {
                yield return new Part(stored, output, start, Math.Min(PieceBytes, stored.Length - start));
            }
        }
    }
}
