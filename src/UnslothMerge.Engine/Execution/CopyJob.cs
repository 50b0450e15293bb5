namespace UnslothMerge.Execution;

/// <summary>A tensor whose bytes are copied, by reads and writes: copy_file_range holds the output's lock while it reads, and a tensor
/// seldom begins at a block that a file system could share.</summary>
internal sealed class CopyJob : CoreJob
{
    // Several buffers, so that two workers seldom write adjacent ranges.
    private const int PieceBytes = 8 * ExecutionPlan.CopyBytes;

    private readonly ShardOutput _output;
    private readonly InputFiles _files;
    private readonly IReadOnlyList<StoredTensor> _stored;

    public CopyJob(WriteTensor write, OpenShard shard, InputFiles files)
        : base(write, shard, write.Verbatim!.Sum(PiecesOf), residentBytes: 0) =>
        (_output, _files, _stored) = (shard.OutputOf(write), files, write.Verbatim!);

    public override long Run(int piece, WorkerBuffers buffers, CancellationToken stop)
    {
        var (output, first) = (0, (long)piece);
        while (first >= PiecesOf(_stored[output]))
        {
            first -= PiecesOf(_stored[output++]);
        }

        var (stored, start) = (_stored[output], first * PieceBytes);
        var length = Math.Min(PieceBytes, stored.Length - start);
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

    private static long PiecesOf(StoredTensor stored) => (stored.Length + PieceBytes - 1) / PieceBytes;
}
