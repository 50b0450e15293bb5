using UnslothMerge.IO;
using UnslothMerge.Planning;
using UnslothMerge.Safetensors;

namespace UnslothMerge.Execution;

/// <summary>One tensor whose bytes are copied.</summary>
internal sealed class CopyJob : CoreJob
{
    /// <summary>Some blocks, so that workers do not meet too often.</summary>
    private const int PieceBytes = 8 * MemoryPlan.CopyBytes;

    private readonly InputFiles _files;
    private readonly IReadOnlyList<Part> _parts;

    public CopyJob(WriteTensor write, ShardOutput output, WriteShard shard, InputFiles files)
        : this(write, output, shard, files, [.. write.Verbatim!.SelectMany((t, i) => Part.Of(t, i, output.Offsets[i]))])
    {
    }

    private CopyJob(WriteTensor write, ShardOutput output, WriteShard shard, InputFiles files, IReadOnlyList<Part> parts)
        : base(write, output, shard, parts.Count, residentBytes: 0)
    {
        _files = files;
        _parts = parts;
    }

    public override long Run(int piece, WorkerBuffers buffers, CancellationToken stop)
    {
        var part = _parts[piece];
        FileCopy.Copy(_files, part.Stored, part.Start, part.Length, Output, buffers.Copy, part.Output);
        Done(null);
        return part.Length;
    }

    /// <summary>A part of a stored tensor.</summary>
    private sealed record Part(StoredTensor Stored, int Output, long Start, long Length)
    {
        public static IEnumerable<Part> Of(StoredTensor stored, int output, long offset)
        {
            for (var start = 0L; start < stored.Length;)
            {
                var length = Math.Min(FileCopy.ToBlock(offset + start, PieceBytes), stored.Length - start);
                yield return new Part(stored, output, start, length);
                start += length;
            }
        }
    }
}
