namespace UnslothMerge.IO;

/// <summary>A bounded cache of memory that several targets of a run read: unused entries are evicted, the least recently used first, and a
/// thread without room waits for entries in use. For tensors of which every target needs parts from all over.</summary>
internal sealed class SharedBuffers(long limit) : IDisposable
{
    private readonly object _gate = new();
    private readonly LinkedList<Entry> _entries = [];

    /// <summary>The bytes that are held at most.</summary>
    public long Limit => limit;

    /// <summary>Borrows the memory of a key (by reference), filled the first time: no more bytes than the limit. A thread holds one loan at
    /// a time.</summary>
    public Loan Take(object key, long bytes, Action<NativeBuffer> fill)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThan(bytes, limit);
        Entry entry;
        lock (_gate)
        {
            Entry? found;
            while ((found = _entries.FirstOrDefault(e => ReferenceEquals(e.Key, key))) is null && !HasRoom(bytes))
            {
                Monitor.Wait(_gate);
            }

            entry = found ?? new Entry(key, bytes);
            _entries.Remove(entry);
            entry.Users++;
            _entries.AddLast(entry);
        }

        try
        {
            return new Loan(this, entry, entry.Fill(fill));
        }
        catch
        {
            Release(entry);
            throw;
        }
    }

    public void Dispose()
    {
        foreach (var entry in _entries)
        {
            entry.Buffer?.Dispose();
        }

        _entries.Clear();
    }

    private bool HasRoom(long bytes)
    {
        foreach (var idle in _entries.Where(e => e.Users == 0).ToList())
        {
            if (Fits())
            {
                break;
            }

            _entries.Remove(idle);
            idle.Buffer?.Dispose();
        }

        return Fits();

        bool Fits() => _entries.Sum(e => e.Bytes) + bytes <= limit;
    }

    private void Release(Entry entry)
    {
        lock (_gate)
        {
            entry.Users--;
            Monitor.PulseAll(_gate);
        }
    }

    public readonly struct Loan : IDisposable
    {
        private readonly SharedBuffers? _owner;
        private readonly Entry _entry;

        internal Loan(SharedBuffers owner, Entry entry, NativeBuffer buffer)
        {
            (_owner, _entry) = (owner, entry);
            Buffer = buffer;
        }

        /// <summary>Read only.</summary>
        public NativeBuffer Buffer { get; }

        public void Dispose() => _owner?.Release(_entry);
    }

    internal sealed class Entry(object key, long bytes)
    {
        private readonly Lock _filling = new();

        public object Key => key;

        public long Bytes => bytes;

        public int Users { get; set; }

        public NativeBuffer? Buffer { get; private set; }

        public NativeBuffer Fill(Action<NativeBuffer> fill)
        {
            lock (_filling)
            {
                if (Buffer is null)
                {
                    var buffer = new NativeBuffer(bytes);
                    try
                    {
                        fill(buffer);
                        Buffer = buffer;
                    }
                    finally
                    {
                        if (Buffer is null)
                        {
                            buffer.Dispose();
                        }
                    }
                }

                return Buffer;
            }
        }
    }
}
