using System.Buffers.Binary;
using System.Text;

namespace UnslothMerge.Pickle;

/// <summary>
/// Reads the pickle of a flat state dict (str → tensor) with only the opcodes that torch.save writes for one, and only the globals of
/// <see cref="PickledGlobals"/>. Everything else is an error, so that no code of the file is ever executed. Nothing here recurses, and every
/// opcode adds at most one value, so that the bounds on opcodes and length bound time and memory.
/// Source: CPython 3.13, <c>pickletools</c>.
/// </summary>
internal sealed class Unpickler
{
    /// <summary>The opcodes that are followed: enough for 400,000 tensors.</summary>
    private const int MaxOpcodes = 1 << 24;

    /// <summary>The values that may be on the stack at once; torch.save sets a dict's items a thousand at a time.</summary>
    private const int MaxStack = 1 << 16;

    /// <summary>The marks that may be open at once; a state dict needs three.</summary>
    private const int MaxMarks = 16;

    private static readonly UTF8Encoding Utf8 = new(false, throwOnInvalidBytes: true);

    private readonly byte[] _pickle;
    private readonly string _path;
    private readonly List<object?> _stack = [];
    private readonly Stack<int> _marks = [];
    private readonly Dictionary<uint, object?> _memo = [];
    private int _position;

    private Unpickler(byte[] pickle, string path)
    {
        _pickle = pickle;
        _path = path;
    }

    /// <summary>Reads the tensors of a state dict.</summary>
    /// <param name="pickle">The content of <c>data.pkl</c>.</param>
    /// <param name="path">The file that it came from, for errors.</param>
    /// <exception cref="PickleException">It is not the pickle of a flat state dict.</exception>
    public static IReadOnlyList<(string Name, PickledTensor Tensor)> Read(byte[] pickle, string path)
    {
        var unpickler = new Unpickler(pickle, path);
        return unpickler.StateDict(unpickler.Run());
    }

    private List<(string Name, PickledTensor Tensor)> StateDict(object? value)
    {
        var tensors = new List<(string, PickledTensor)>();
        var names = new HashSet<string>(StringComparer.Ordinal);
        foreach (var (key, item) in (value as PickledDict ?? throw Wrong("it holds something else than a dict of tensors.")).Items)
        {
            tensors.Add(key is not string name ? throw Wrong("a key of its dict is not a string.")
                : item is not PickledTensor tensor ? throw Wrong($"'{name}' is not a tensor; only a flat dict of tensors can be read.")
                : !names.Add(name) ? throw Wrong($"'{name}' occurs twice.")
                : (name, tensor));
        }

        return tensors;
    }

    private object? Run()
    {
        for (var count = 0; count < MaxOpcodes; count++)
        {
            var at = _position;
            var opcode = (char)Bytes(1)[0];
            switch (opcode)
            {
                case '\x80': // PROTO
                    if (Bytes(1)[0] is var protocol and > 5)
                    {
                        throw Wrong($"its pickle protocol is {protocol}, newer than 5.");
                    }

                    break;
                case '\x95': // FRAME
                    Bytes(8);
                    break;
                case 'N': // NONE
                    Push(null);
                    break;
                case '\x88': // NEWTRUE
                    Push(true);
                    break;
                case '\x89': // NEWFALSE
                    Push(false);
                    break;
                case 'K': // BININT1
                    Push((long)Bytes(1)[0]);
                    break;
                case 'M': // BININT2
                    Push((long)BinaryPrimitives.ReadUInt16LittleEndian(Bytes(2)));
                    break;
                case 'J': // BININT
                    Push((long)BinaryPrimitives.ReadInt32LittleEndian(Bytes(4)));
                    break;
                case '\x8a': // LONG1
                    Push(Long());
                    break;
                case '\x8c': // SHORT_BINUNICODE
                    Push(Text(Bytes(1)[0]));
                    break;
                case 'X': // BINUNICODE
                    Push(Text(BinaryPrimitives.ReadUInt32LittleEndian(Bytes(4))));
                    break;
                case '}': // EMPTY_DICT
                    Push(new PickledDict());
                    break;
                case ')': // EMPTY_TUPLE
                    Push(Array.Empty<object?>());
                    break;
                case '\x85': // TUPLE1
                case '\x86': // TUPLE2
                case '\x87': // TUPLE3
                    Push(Take(opcode - '\x84'));
                    break;
                case '(': // MARK
                    Mark();
                    break;
                case 't': // TUPLE
                    Push(TakeMarked());
                    break;
                case 's': // SETITEM
                    SetItems(Take(2));
                    break;
                case 'u': // SETITEMS
                    SetItems(TakeMarked());
                    break;
                case 'q': // BINPUT
                    _memo[Bytes(1)[0]] = Peek();
                    break;
                case 'r': // LONG_BINPUT
                    _memo[BinaryPrimitives.ReadUInt32LittleEndian(Bytes(4))] = Peek();
                    break;
                case '\x94': // MEMOIZE
                    _memo[(uint)_memo.Count] = Peek();
                    break;
                case 'h': // BINGET
                    Push(Recall(Bytes(1)[0]));
                    break;
                case 'j': // LONG_BINGET
                    Push(Recall(BinaryPrimitives.ReadUInt32LittleEndian(Bytes(4))));
                    break;
                case 'c': // GLOBAL
                    Push(Global(Line(), Line()));
                    break;
                case '\x93': // STACK_GLOBAL
                    Push(Take(2) is [string module, string name] ? Global(module, name) : throw Wrong("a global's name is not text."));
                    break;
                case 'Q': // BINPERSID
                    Push(Storage(Pop()));
                    break;
                case 'R': // REDUCE
                    Push(Reduce(Take(2)));
                    break;
                case 'b': // BUILD: the _metadata of a module's state dict, which says nothing about its tensors
                    Push(Take(2) is [PickledDict built, PickledDict] ? built : throw Wrong("it sets the state of something else than a dict."));
                    break;
                case '.': // STOP
                    return _stack.Count == 1 && _marks.Count == 0 ? _stack[0] : throw Wrong("its pickle ends with values left over.");
                default:
                    throw Wrong($"its pickle holds the opcode 0x{(int)opcode:x2} at {at}, which no flat dict of tensors needs.");
            }
        }

        throw Wrong($"its pickle has more than {MaxOpcodes} opcodes.");
    }

    private ReadOnlySpan<byte> Bytes(uint count)
    {
        if (count > _pickle.Length - _position)
        {
            throw Wrong("its pickle is truncated.");
        }

        _position += (int)count;
        return _pickle.AsSpan(_position - (int)count, (int)count);
    }

    private string Text(uint count)
    {
        try
        {
            return Utf8.GetString(Bytes(count));
        }
        catch (DecoderFallbackException)
        {
            throw Wrong("a text in its pickle is not UTF-8.");
        }
    }

    private string Line()
    {
        var length = _pickle.AsSpan(_position).IndexOf((byte)'\n');
        var line = Text(length < 0 ? uint.MaxValue : (uint)length);
        _position++;
        return line;
    }

    // A little-endian number in two's complement.
    private long Long()
    {
        var bytes = Bytes(Bytes(1)[0]);
        if (bytes.Length > sizeof(long))
        {
            throw Wrong($"its pickle holds a number of {bytes.Length} bytes.");
        }

        Span<byte> value = stackalloc byte[sizeof(long)];
        value.Fill(bytes.IsEmpty || bytes[^1] < 0x80 ? (byte)0 : (byte)0xff);
        bytes.CopyTo(value);
        return BinaryPrimitives.ReadInt64LittleEndian(value);
    }

    private void Push(object? value)
    {
        if (_stack.Count >= MaxStack)
        {
            throw Wrong($"its pickle has more than {MaxStack} values in work at once.");
        }

        _stack.Add(value);
    }

    private object?[] Take(int count)
    {
        RequireAbove(_stack.Count - count);
        var values = new object?[count];
        _stack.CopyTo(_stack.Count - count, values, 0, count);
        _stack.RemoveRange(_stack.Count - count, count);
        return values;
    }

    private object? Pop()
    {
        var value = Peek();
        _stack.RemoveAt(_stack.Count - 1);
        return value;
    }

    private object? Peek()
    {
        RequireAbove(_stack.Count - 1);
        return _stack[^1];
    }

    // As in pickle itself, what lies below an open mark is out of reach.
    private void RequireAbove(int from)
    {
        if (from < (_marks.TryPeek(out var mark) ? mark : 0))
        {
            throw Wrong("its pickle takes more values than it made.");
        }
    }

    private void Mark()
    {
        if (_marks.Count >= MaxMarks)
        {
            throw Wrong($"its pickle nests deeper than {MaxMarks} levels.");
        }

        _marks.Push(_stack.Count);
    }

    private object?[] TakeMarked() => _marks.TryPop(out var mark) ? Take(_stack.Count - mark) : throw Wrong("its pickle ends a sequence that it did not begin.");

    private object? Recall(uint index) => _memo.TryGetValue(index, out var value) ? value : throw Wrong($"its pickle recalls the value {index}, which it never kept.");

    private void SetItems(object?[] items)
    {
        if (Pop() is not PickledDict dict || items.Length % 2 != 0)
        {
            throw Wrong("its pickle sets items of something that is not a dict.");
        }

        for (var i = 0; i < items.Length; i += 2)
        {
            dict.Items.Add((items[i], items[i + 1]));
        }

        Push(dict);
    }

    private object Global(string module, string name) => PickledGlobals.Find($"{module}.{name}")
        ?? throw Wrong($"its pickle uses '{module}.{name}', which no flat dict of tensors needs. Nothing of it was executed.");

    // ('storage', class, key, location, count): where it was (cpu, cuda:0 …) does not matter.
    private PickledStorage Storage(object? id) =>
        id is object?[] and ["storage", StorageClass type, string key, string, long and >= 0 and var count]
            ? new PickledStorage(type.Type, key, count)
            : throw Wrong("a storage in its pickle is not described as torch.save does it.");

    private object? Reduce(object?[] call) => call is not [PickledCallable callable, object?[] arguments]
        ? throw Wrong("its pickle calls something that cannot be called.")
        : callable.Call(arguments) ?? throw Wrong($"its pickle calls {callable.Name} with arguments that torch.save does not write.");

    private PickleException Wrong(string detail) => new(_path, detail);
}
