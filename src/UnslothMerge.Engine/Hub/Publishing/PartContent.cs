using System.Net;

namespace UnslothMerge.Hub.Publishing;

/// <summary>A part of a file as the body of a request, of known length: storages refuse chunks.</summary>
internal sealed class PartContent(UploadFile file, long offset, long count, Action<int> sent) : HttpContent
{
    protected override void SerializeToStream(Stream stream, TransportContext? context, CancellationToken cancellationToken) =>
        file.Read(offset, count, bytes =>
        {
            // In pieces, so that a slow network shows that it goes on.
            for (var rest = bytes; !rest.IsEmpty;)
            {
                cancellationToken.ThrowIfCancellationRequested();
                var piece = rest[..Math.Min(rest.Length, 128 * 1024)];
                stream.Write(piece);
                sent(piece.Length);
                rest = rest[piece.Length..];
            }
        });

    protected override Task SerializeToStreamAsync(Stream stream, TransportContext? context)
    {
        SerializeToStream(stream, context, CancellationToken.None);
        return Task.CompletedTask;
    }

    protected override bool TryComputeLength(out long length)
    {
        length = count;
        return true;
    }
}
