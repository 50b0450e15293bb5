using System.Security.Cryptography;

namespace UnslothMerge.Tests.Saving.Crashes;

/// <summary>What becomes of data that was written and not flushed.</summary>
public enum Unflushed
{
    /// <summary>It is there: the process was killed, the machine runs on.</summary>
    Kept,

    /// <summary>The file is empty.</summary>
    Empty,

    /// <summary>The file has its length and holds zeros.</summary>
    Zeros,

    /// <summary>The file has the first half of what was written.</summary>
    Half,
}

/// <summary>The states in which a recorded save can leave a directory. File systems keep changes of names in their order: of those, any
/// prefix is there that includes what directories were flushed for. A file's data is there if it was flushed, else it may be
/// lost.</summary>
internal sealed class LostPower
{
    private readonly string _root;
    private readonly IReadOnlyList<DiskCall> _calls;
    private readonly Tree _start;

    /// <summary>Takes what a directory holds now, which is on the disk, and the calls that will change it.</summary>
    public LostPower(string root, IReadOnlyList<DiskCall> calls, Tree start) => (_root, _calls, _start) = (root, calls, start);

    /// <summary>All different states: after how many calls the power was lost, how many changes of names are there, and what.</summary>
    public IEnumerable<(int Calls, Tree State)> States(params Unflushed[] unflushed)
    {
        var seen = new HashSet<string>();
        for (var calls = 0; calls <= _calls.Count; calls++)
        {
            var flushed = FlushedNames(calls);
            foreach (var kind in unflushed)
            {
                // A kill loses nothing.
                for (var names = kind == Unflushed.Kept ? calls : flushed; names <= calls; names++)
                {
                    var state = Replay(calls, names, kind);
                    if (seen.Add(state.Fingerprint))
                    {
                        yield return (calls, state);
                    }
                }
            }
        }
    }

    // The number of calls up to the last change of names that a flush of its directory made last.
    private int FlushedNames(int calls)
    {
        var last = 0;
        for (var i = 0; i < calls; i++)
        {
            if (_calls[i] is DiskCall.FlushDirectory flush)
            {
                last = Math.Max(last, 1 + Enumerable.Range(0, i).LastOrDefault(c => Directories(_calls[c]).Contains(flush.Path), -1));
            }
        }

        return last;
    }

    private static IEnumerable<string> Directories(DiskCall call) => (call switch
    {
        DiskCall.Create c => new[] { c.Path },
        DiskCall.CloneFile c => [c.Path],
        DiskCall.CreateDirectory c => [c.Path],
        DiskCall.Delete c => [c.Path],
        DiskCall.Move c => [c.From, c.To],
        DiskCall.Exchange c => [c.One, c.Other],
        _ => [],
    }).Select(p => Path.GetDirectoryName(p)!);

    private Tree Replay(int calls, int names, Unflushed unflushed)
    {
        var tree = _start.Copy();

        // A file is known by the node that it got: paths change.
        for (var i = 0; i < calls; i++)
        {
            switch (_calls[i])
            {
                case DiskCall.Write write:
                    tree.Find(Relative(write.Path))!.Write(write.At, write.Bytes);
                    break;
                case DiskCall.SetLength set:
                    tree.Find(Relative(set.Path))!.SetLength(set.Length);
                    break;
                case DiskCall.Flush flush:
                    tree.Find(Relative(flush.Path))!.Flush();
                    break;
                case DiskCall.FlushDirectory:
                    break;
                case var change:
                    tree.Change(change, Relative);
                    break;
            }
        }

        if (names < calls)
        {
            // The same nodes under the names of before.
            var early = _start.Copy();
            var made = new Queue<Node>(tree.Created);
            for (var i = 0; i < names; i++)
            {
                early.Change(_calls[i], Relative, made);
            }

            tree = early;
        }

        tree.Lose(unflushed);
        return tree;
    }

    private string Relative(string path) => Path.GetRelativePath(_root, path);

    /// <summary>Directories and files by name.</summary>
    internal sealed class Tree
    {
        private Node _root = new(isDirectory: true);

        /// <summary>Every file that was made, in order.</summary>
        public List<Node> Created { get; } = [];

        public string Fingerprint => Convert.ToHexString(SHA256.HashData(Encoding.UTF8.GetBytes(_root.Describe())));

        public static Tree Of(string directory) => new() { _root = Node.Of(directory) };

        public Tree Copy() => new() { _root = _root.Copy() };

        public Node? Find(string path) => path == "." ? _root
            : path.Split('/').Aggregate((Node?)_root, (node, name) => node?.Entries.GetValueOrDefault(name));

        public void Lose(Unflushed unflushed) => _root.Lose(unflushed);

        /// <summary>Makes the directory what this says, and nothing else.</summary>
        public void WriteTo(string directory)
        {
            if (Directory.Exists(directory))
            {
                Directory.Delete(directory, recursive: true);
            }

            _root.WriteTo(directory);
        }

        public void Change(DiskCall call, Func<string, string> relative, Queue<Node>? made = null)
        {
            switch (call)
            {
                case DiskCall.Create create:
                    Make(create.Path, () => new Node(isDirectory: false));
                    break;
                case DiskCall.CloneFile clone:
                    Make(clone.Path, () => Node.CloneOf(clone.Source));
                    break;
                case DiskCall.CreateDirectory create:
                    Put(relative(create.Path), new Node(isDirectory: true));
                    break;
                case DiskCall.Delete delete:
                    Take(relative(delete.Path));
                    break;
                case DiskCall.Move move:
                    Put(relative(move.To), Take(relative(move.From)));
                    break;
                case DiskCall.Exchange exchange:
                    var (one, other) = (Take(relative(exchange.One)), Take(relative(exchange.Other)));
                    Put(relative(exchange.One), other);
                    Put(relative(exchange.Other), one);
                    break;
            }

            void Make(string path, Func<Node> make)
            {
                var file = made?.Dequeue() ?? make();
                Created.Add(file);
                Put(relative(path), file);
            }
        }

        private void Put(string path, Node node) => Parent(path).Entries[Path.GetFileName(path)] = node;

        private Node Take(string path)
        {
            Parent(path).Entries.Remove(Path.GetFileName(path), out var node);
            return node!;
        }

        private Node Parent(string path) => Find(Path.GetDirectoryName(path) is { Length: > 0 } parent ? parent : ".")!;
    }

    /// <summary>A directory, or a file with what it holds and what of that is on the disk.</summary>
    internal sealed class Node(bool isDirectory)
    {
        private byte[] _now = [];
        private byte[] _flushed = [];

        public SortedDictionary<string, Node> Entries { get; private init; } = new(StringComparer.Ordinal);

        public static Node Of(string path)
        {
            if (File.Exists(path))
            {
                var bytes = File.ReadAllBytes(path);
                return new Node(isDirectory: false) { _now = bytes, _flushed = bytes };
            }

            var node = new Node(isDirectory: true);
            foreach (var entry in DiskExtensions.Entries(path))
            {
                node.Entries[Path.GetFileName(entry)] = Of(entry);
            }

            return node;
        }

        /// <summary>A file that has the blocks of another one, but not yet on the disk.</summary>
        public static Node CloneOf(string path) => new(isDirectory: false) { _now = File.ReadAllBytes(path) };

        public void Write(long at, byte[] bytes)
        {
            var all = new byte[Math.Max(_now.Length, at + bytes.Length)];
            _now.CopyTo(all, 0);
            bytes.CopyTo(all, at);
            _now = all;
        }

        public void SetLength(long length) => Array.Resize(ref _now, (int)length);

        public void Flush() => _flushed = _now;

        public void Lose(Unflushed unflushed)
        {
            if (_now != _flushed)
            {
                _now = unflushed switch
                {
                    Unflushed.Kept => _now,
                    Unflushed.Empty => _flushed,
                    Unflushed.Half => [.. _now.Take(_now.Length / 2)],
                    _ => [.. _flushed.Take(_now.Length), .. new byte[Math.Max(0, _now.Length - _flushed.Length)]],
                };
            }

            foreach (var entry in Entries.Values)
            {
                entry.Lose(unflushed);
            }
        }

        public Node Copy() => new(isDirectory)
        {
            _now = _now,
            _flushed = _flushed,
            Entries = new(Entries.ToDictionary(e => e.Key, e => e.Value.Copy()), StringComparer.Ordinal),
        };

        public string Describe() => isDirectory
            ? $"{{{string.Join(',', Entries.Select(e => $"{e.Key}:{e.Value.Describe()}"))}}}"
            : Convert.ToHexString(SHA256.HashData(_now));

        public void WriteTo(string path)
        {
            if (!isDirectory)
            {
                File.WriteAllBytes(path, _now);
                return;
            }

            Directory.CreateDirectory(path);
            foreach (var (name, entry) in Entries)
            {
                entry.WriteTo(Path.Combine(path, name));
            }
        }
    }
}
