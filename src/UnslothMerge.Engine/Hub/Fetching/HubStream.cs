using System.Runtime.ExceptionServices;
using System.Security.Cryptography;

namespace UnslothMerge.Hub.Fetching;

/// <summary>
/// The files of a base that are read from the Hub during a run and not kept. Blocks come ahead of the readers, over several connections,
/// into memory of a fixed size, and are hashed in order. A block that is read again must be what it was; a run ends with
/// <see cref="Complete"/>, which reads what is left, so that every byte that was used is one of a file whose hash is right.
/// </summary>
internal sealed class HubStream : IDisposable
{
    /// <summary>The memory of the blocks.</summary>
    public const long MemoryBytes = (long)Slots * UsualBlockBytes;

    private const int UsualBlockBytes = 4 * 1024 * 1024;
    private const int Slots = 24;
    private const int Ahead = 12;
    private const int Connections = 8;

    private readonly object _gate = new();
    private readonly List<StreamedFile> _files = [];
    private readonly Dictionary<long, Slot> _slots = [];
    private readonly Stack<byte[]> _free = [];
    private readonly Queue<long> _asked = new();
    private readonly RateBoard _rates;
    private readonly CancellationTokenSource _stop;
    private readonly List<Thread> _threads;
    private readonly int _blockBytes;
    private readonly long _blocks;
    private long _position;
    private long _clock;
    private ExceptionDispatchInfo? _failure;

    private HubStream(IReadOnlyList<HubFile> files, int blockBytes, CancellationToken cancellation)
    {
        _blockBytes = blockBytes;
        foreach (var file in files)
        {
            _files.Add(new StreamedFile(file, _blocks, blockBytes));
            _blocks += _files[^1].Blocks;
        }

        _rates = new RateBoard(files[0].Model.Client.Clock);
        _stop = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        _threads = [.. Enumerable.Range(0, Connections).Select(i => new Thread(Work) { IsBackground = true, Name = $"stream {i}" })];
        _threads.ForEach(t => t.Start());
        _files.ForEach(f => f.File.Stream = this);
    }

    /// <summary>Begins to read those of some files that are on the Hub yet, in their order; null if there are none.</summary>
    public static HubStream? Open(
        IEnumerable<StoredFile> files, CancellationToken cancellation, int blockBytes = UsualBlockBytes) =>
        files.Select(f => f.Remote).OfType<HubFile>().Where(f => !f.IsDownloaded).Distinct().ToList() is { Count: > 0 } remote
            ? new HubStream(remote, blockBytes, cancellation) : null;

    /// <summary>Reads a part of a file.</summary>
    public void Read(HubFile file, long offset, Span<byte> destination)
    {
        var streamed = _files.Find(f => f.File == file)!;
        while (!destination.IsEmpty)
        {
            var (block, start) = ((int)(offset / _blockBytes), (int)(offset % _blockBytes));
            var part = destination[..Math.Min(destination.Length, _blockBytes - start)];
            var slot = Take(streamed.First + block);
            slot.Bytes.AsSpan(start, part.Length).CopyTo(part);
            Release(slot);
            offset += part.Length;
            destination = destination[part.Length..];
        }
    }

    /// <summary>True if those of some files that are read here were read to their end; refuses them if their hash is wrong.</summary>
    public bool AreRight(IEnumerable<StoredFile> files)
    {
        var read = files.Select(f => f.Remote).Distinct().Select(r => _files.Find(f => ReferenceEquals(f.File, r))).OfType<StreamedFile>()
            .Where(f => f.NextToHash is null).ToList();
        read.ForEach(f => f.RequireRight());
        return files.All(f => f.Remote is not HubFile { IsDownloaded: false } remote || read.Exists(s => ReferenceEquals(s.File, remote)));
    }

    /// <summary>Reads what was not read, and refuses files whose hash is wrong.</summary>
    public void Complete()
    {
        foreach (var file in _files)
        {
            while (file.NextToHash is { } block)
            {
                Release(Take(file.First + block));
                Hash(file);
            }

            file.RequireRight();
        }
    }

    public void Dispose()
    {
        _stop.Cancel();
        lock (_gate)
        {
            Monitor.PulseAll(_gate);
        }

        _threads.ForEach(t => t.Join());
        _files.ForEach(f =>
        {
            f.File.Stream = null;
            f.Dispose();
        });
        _stop.Dispose();
    }

    // Waits until a block is there; it stays until it is released.
    private Slot Take(long block)
    {
        lock (_gate)
        {
            // Readers go forward together. Who reads far away does not lead.
            if (block > _position && block <= _position + Ahead)
            {
                _position = block;
                Monitor.PulseAll(_gate);
            }

            while (true)
            {
                _failure?.Throw();
                _stop.Token.ThrowIfCancellationRequested();
                if (!_slots.TryGetValue(block, out var slot))
                {
                    if (!_asked.Contains(block))
                    {
                        _asked.Enqueue(block);
                        Monitor.PulseAll(_gate);
                    }
                }
                else if (slot.IsReady)
                {
                    slot.Users++;
                    slot.Used = ++_clock;
                    return slot;
                }

                Monitor.Wait(_gate, TimeSpan.FromSeconds(1));
            }
        }
    }

    private void Release(Slot slot)
    {
        lock (_gate)
        {
            slot.Users--;
            Monitor.PulseAll(_gate);
        }
    }

    private void Work()
    {
        try
        {
            while (Next() is { } slot)
            {
                var file = _files.FindLast(f => f.First <= slot.Block)!;
                file.Fetch((int)(slot.Block - file.First), slot.Bytes, _rates, _stop.Token);
                lock (_gate)
                {
                    slot.IsReady = true;
                    Monitor.PulseAll(_gate);
                }

                Hash(file);
            }
        }
#pragma warning disable CA1031 // the first failure is thrown where somebody reads
        catch (Exception e)
#pragma warning restore CA1031
        {
            lock (_gate)
            {
                _failure ??= _stop.IsCancellationRequested ? null : ExceptionDispatchInfo.Capture(e);
                Monitor.PulseAll(_gate);
            }
        }
    }

    // The next block to fetch: one that somebody waits for, else the first of those ahead.
    private Slot? Next()
    {
        lock (_gate)
        {
            while (!_stop.IsCancellationRequested)
            {
                var asked = _asked.TryPeek(out var block);
                if (!asked)
                {
                    block = _position;
                    while (block <= _position + Ahead && block < _blocks && _slots.ContainsKey(block))
                    {
                        block++;
                    }
                }

                if ((asked || (block <= _position + Ahead && block < _blocks)) && TakeMemory() is { } bytes)
                {
                    if (asked)
                    {
                        _asked.Dequeue();
                    }

                    return _slots[block] = new Slot(block, bytes) { Used = ++_clock };
                }

                Monitor.Wait(_gate, TimeSpan.FromSeconds(1));
            }

            return null;
        }
    }

    // Memory that is free, else that of the block that is needed least: hashed, behind the readers, not used for long.
    private byte[]? TakeMemory()
    {
        if (_free.TryPop(out var free))
        {
            return free;
        }

        if (_slots.Count < Slots)
        {
            return new byte[_blockBytes];
        }

        var idle = _slots.Values.Where(s => s is { IsReady: true, Users: 0 } && (s.Block < _position || s.Block > _position + Ahead))
            .OrderBy(s => !s.IsHashed).ThenBy(s => s.Used).FirstOrDefault();
        return idle is not null && _slots.Remove(idle.Block) ? idle.Bytes : null;
    }

    // Goes on with a file's hash as far as its blocks are there.
    private void Hash(StreamedFile file)
    {
        lock (file)
        {
            while (file.NextToHash is { } block && Borrow(file.First + block) is { } slot)
            {
                try
                {
                    file.Hash(slot.Bytes);
                    slot.IsHashed = true;
                }
                finally
                {
                    Release(slot);
                }
            }
        }
    }

    private Slot? Borrow(long block)
    {
        lock (_gate)
        {
            if (_slots.GetValueOrDefault(block) is not { IsReady: true } slot)
            {
                return null;
            }

            slot.Users++;
            return slot;
        }
    }

    private sealed class Slot(long block, byte[] bytes)
    {
        public long Block => block;

        public byte[] Bytes => bytes;

        public bool IsReady { get; set; }

        public bool IsHashed { get; set; }

        public int Users { get; set; }

        public long Used { get; set; }
    }

    /// <summary>A file, its blocks, and how far it is hashed.</summary>
    private sealed class StreamedFile(HubFile file, long first, int blockBytes) : IDisposable
    {
        private readonly ContentHash _hash = new(file.File);
        private readonly byte[]?[] _digests = new byte[(file.Length + blockBytes - 1) / blockBytes][];
        private int _next;
        private bool? _isRight;

        public HubFile File => file;

        public long First => first;

        public int Blocks => _digests.Length;

        public int? NextToHash => Volatile.Read(ref _next) is var next && next < Blocks ? next : null;

        public void Fetch(int block, byte[] bytes, RateBoard rates, CancellationToken cancellation)
        {
            var (offset, length) = ((long)block * blockBytes, LengthOf(block));
            file.Content.Read(offset, length, rates, (at, part) => part.CopyTo(bytes.AsSpan((int)(at - offset))), cancellation);
            var digest = SHA256.HashData(bytes.AsSpan(0, length));
            if (Interlocked.CompareExchange(ref _digests[block], digest, null) is { } before && !before.AsSpan().SequenceEqual(digest))
            {
                throw file.Damaged();
            }
        }

        public void Hash(byte[] bytes)
        {
            var block = bytes.AsSpan(0, LengthOf(_next));
            file.RequireSeen((long)_next * blockBytes, block);
            _hash.Append(block);
            Volatile.Write(ref _next, _next + 1);
        }

        public void RequireRight()
        {
            lock (this)
            {
                if (!(_isRight ??= _hash.IsRight()))
                {
                    throw file.Damaged();
                }
            }
        }

        public void Dispose() => _hash.Dispose();

        private int LengthOf(int block) => (int)Math.Min(blockBytes, file.Length - ((long)block * blockBytes));
    }
}
