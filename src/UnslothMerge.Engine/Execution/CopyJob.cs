using UnslothMerge.IO;
using UnslothMerge.Planning;

namespace UnslothMerge.Execution;

/// <summary>One tensor whose bytes are copied. With reads and writes that stay in the cache: copy_file_range holds the output's lock while
/// it reads, and a tensor seldom lies where a file system could share its blocks.</summary>
internal sealed class CopyJob : CoreJob
{
    // Some buffers long, so that workers write next to each other less often.
    private const int PieceBytes = 8 * ExecutionPlan.CopyBytes;

    private readonly ShardOutput _output;
    private readonly InputFiles _files;
    private readonly IReadOnlyList<Part> _parts;

    public CopyJob(WriteTensor write, ShardOutput output, WriteShard shard, InputFiles files)
        : this(write, output, shard, files, [.. write.Verbatim!.SelectMany(Part.Of)])
    {
    }

    private CopyJob(WriteTensor write, ShardOutput output, WriteShard shard, InputFiles files, IReadOnlyList<Part> parts)
        : base(write, output, shard, parts.Count, residentBytes: 0) => (_output, _files, _parts) = (output, files, parts);

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

        Done(null);
        return length;
    }

    /// <summary>A part of a stored tensor, which is copied to the output of this number.</summary>
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
