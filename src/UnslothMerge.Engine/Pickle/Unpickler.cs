namespace UnslothMerge.Pickle;

/// <summary>Reads the pickle of a flat state dict (str → tensor): only the opcodes that torch.save writes for one, and only the globals of
/// <see cref="PickledGlobals"/>. Everything else is an error, so no code of the file is executed. Nothing recurses, and every opcode adds
/// at most one value, so the limits on opcodes and length bound time and memory. Source: CPython 3.13, <c>pickletools</c>.</summary>
internal sealed class Unpickler(byte[] pickle, string path)
{
    private static readonly UTF8Encoding Utf8 = new(false, throwOnInvalidBytes: true);

    private readonly List<object?> _stack = [];
    private readonly Stack<int> _marks = [];
    private readonly Dictionary<uint, object?> _memo = [];
    private int _position;

    /// <summary>Reads the tensors of a state dict from the content of <c>data.pkl</c>.</summary>
    public static IReadOnlyList<(string Name, PickledTensor Tensor)> Read(byte[] pickle, string path)
    {
        var unpickler = new Unpickler(pickle, path);
        return unpickler.StateDict(unpickler.Run());
    }

    /// <summary>Reads a file without archive, from behind its magic number on.</summary>
    /// <returns>The tensors, the keys of the storages in their order, and where the first storage begins.</returns>
    /// <exception cref="PickleException">It is not such a file, or does not hold a flat state dict.</exception>
    public static (IReadOnlyList<(string Name, PickledTensor Tensor)> Tensors, IReadOnlyList<string> Keys, int End) ReadLegacy(
        byte[] file, int start, string path)
    {
        var unpickler = new Unpickler(file, path) { _position = start };
        if (unpickler.Run() is not 1001L || unpickler.Run() is not PickledDict system || !system.Items.Contains(("little_endian", true)))
        {
            throw unpickler.Invalid("its protocol is not 1001, or it was not written on a little-endian machine.");
        }

        var tensors = unpickler.StateDict(unpickler.Run());
        var keys = unpickler.Run() as List<object?> ?? throw unpickler.Invalid("it has no list of storages.");
        return (tensors, [.. keys.Select(k => k as string ?? throw unpickler.Invalid("the key of a storage is not text."))],
            unpickler._position);
    }

    private List<(string Name, PickledTensor Tensor)> StateDict(object? value)
    {
        var tensors = new List<(string, PickledTensor)>();
        var names = new HashSet<string>(StringComparer.Ordinal);
        foreach (var (key, item) in (value as PickledDict ?? throw Invalid("it holds something else than a dict of tensors.")).Items)
        {
            tensors.Add(key is not string name ? throw Invalid("a key of its dict is not a string.")
                : item is not PickledTensor tensor ? throw Invalid($"'{name}' is not a tensor; only a flat dict of tensors can be read.")
                : name.Length > Limits.NameLength ? throw Invalid(
                    $"a name has {name.Length} characters; at most {Limits.NameLength} are read.")
                : !names.Add(name) ? throw Invalid($"'{name}' occurs twice.")
                : (name, tensor));
        }

        return tensors;
    }

    private object? Run()
    {
        _stack.Clear();
        _memo.Clear();
        for (var count = 0; count < Limits.PickleOpcodes; count++)
        {
            var at = _position;
            var opcode = (char)Bytes(1)[0];
            switch (opcode)
            {
                case '\x80': // PROTO
                    if (Bytes(1)[0] is var protocol and > 5)
                    {
                        throw Invalid($"its pickle protocol is {protocol}, newer than 5.");
                    }

                    break;
                case '\x95': Bytes(8); break; // FRAME
                case 'N': Push(null); break; // NONE
                case '\x88': Push(true); break; // NEWTRUE
                case '\x89': Push(false); break; // NEWFALSE
                case 'K': Push((long)Bytes(1)[0]); break; // BININT1
                case 'M': Push((long)BinaryPrimitives.ReadUInt16LittleEndian(Bytes(2))); break; // BININT2
                case 'J': Push((long)BinaryPrimitives.ReadInt32LittleEndian(Bytes(4))); break; // BININT
                case '\x8a': Push(Long()); break; // LONG1
                case '\x8c': Push(Text(Bytes(1)[0])); break; // SHORT_BINUNICODE
                case 'X': Push(Text(BinaryPrimitives.ReadUInt32LittleEndian(Bytes(4)))); break; // BINUNICODE
                case 'U': Push(Text(Bytes(1)[0])); break; // SHORT_BINSTRING
                case ']': Push(new List<object?>()); break; // EMPTY_LIST
                case 'a': Append(Take(1)); break; // APPEND
                case 'e': Append(TakeMarked()); break; // APPENDS
                case '}': Push(new PickledDict()); break; // EMPTY_DICT
                case ')': Push(Array.Empty<object?>()); break; // EMPTY_TUPLE
                case '\x85': // TUPLE1
                case '\x86': // TUPLE2
                case '\x87': Push(Take(opcode - '\x84')); break; // TUPLE3
                case '(': Mark(); break; // MARK
                case 't': Push(TakeMarked()); break; // TUPLE
                case 's': SetItems(Take(2)); break; // SETITEM
                case 'u': SetItems(TakeMarked()); break; // SETITEMS
                case 'q': Put(Bytes(1)[0]); break; // BINPUT
                case 'r': Put(BinaryPrimitives.ReadUInt32LittleEndian(Bytes(4))); break; // LONG_BINPUT
                case '\x94': Put((uint)_memo.Count); break; // MEMOIZE
                case 'h': Push(Memo(Bytes(1)[0])); break; // BINGET
                case 'j': Push(Memo(BinaryPrimitives.ReadUInt32LittleEndian(Bytes(4)))); break; // LONG_BINGET
                case 'c': Push(Global(Line(), Line())); break; // GLOBAL
                case '\x93': // STACK_GLOBAL
                    Push(Take(2) is [string module, string name] ? Global(module, name) : throw Invalid("a global's name is not text."));
                    break;
                case 'Q': Push(Storage(Pop())); break; // BINPERSID
                case 'R': Push(Reduce(Take(2))); break; // REDUCE
                case 'b': // BUILD: the _metadata of a module's state dict, which says nothing about its tensors
                    Push(Take(2) is [PickledDict built, PickledDict] ? built
                        : throw Invalid("it sets the state of something else than a dict."));
                    break;
                case '.': // STOP
                    return _stack.Count == 1 && _marks.Count == 0 ? _stack[0] : throw Invalid("its pickle ends with values left over.");
                default:
                    throw Invalid($"its pickle holds the opcode 0x{(int)opcode:x2} at {at}, which no flat dict of tensors needs.");
            }
        }

        throw Invalid($"its pickle has more than {Limits.PickleOpcodes} opcodes.");
    }

    private ReadOnlySpan<byte> Bytes(uint count)
    {
        if (count > pickle.Length - _position)
        {
            throw Invalid("its pickle is truncated.");
        }

        _position += (int)count;
        return pickle.AsSpan(_position - (int)count, (int)count);
    }

    private string Text(uint count)
    {
        try
        {
            return Utf8.GetString(Bytes(count));
        }
        catch (DecoderFallbackException)
        {
            throw Invalid("a text in its pickle is not UTF-8.");
        }
    }

    private string Line()
    {
        var length = pickle.AsSpan(_position).IndexOf((byte)'\n');
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
            throw Invalid($"its pickle holds a number of {bytes.Length} bytes.");
        }

        Span<byte> value = stackalloc byte[sizeof(long)];
        value.Fill(bytes.IsEmpty || bytes[^1] < 0x80 ? (byte)0 : (byte)0xff);
        bytes.CopyTo(value);
        return BinaryPrimitives.ReadInt64LittleEndian(value);
    }

    private void Push(object? value)
    {
        if (_stack.Count >= Limits.PickleStack)
        {
            throw Invalid($"its pickle has more than {Limits.PickleStack} values on the stack.");
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
            throw Invalid("its pickle takes more values than it made.");
        }
    }

    private void Mark()
    {
        if (_marks.Count >= Limits.PickleMarks)
        {
            throw Invalid($"its pickle nests deeper than {Limits.PickleMarks} levels.");
        }

        _marks.Push(_stack.Count);
    }

    private object?[] TakeMarked() =>
        _marks.TryPop(out var mark) ? Take(_stack.Count - mark) : throw Invalid("its pickle ends a sequence that it did not begin.");

    private void Put(uint index)
    {
        _memo[index] = Peek();
        if (_memo.Count > Limits.PickleMemo)
        {
            throw Invalid($"its pickle puts more than {Limits.PickleMemo} values into its memo.");
        }
    }

    private object? Memo(uint index) =>
        _memo.TryGetValue(index, out var value) ? value : throw Invalid($"its pickle gets the memo {index}, which it never put.");

    private void SetItems(object?[] items)
    {
        if (Pop() is not PickledDict dict || items.Length % 2 != 0)
        {
            throw Invalid("its pickle sets items of something that is not a dict.");
        }

        for (var i = 0; i < items.Length; i += 2)
        {
            dict.Items.Add((items[i], items[i + 1]));
        }

        Push(dict);
    }

    private void Append(object?[] items) =>
        (Peek() as List<object?> ?? throw Invalid("its pickle appends to something that is not a list.")).AddRange(items);

    private object Global(string module, string name) => PickledGlobals.Find($"{module}.{name}")
        ?? throw Invalid($"its pickle uses '{module}.{name}', which no flat dict of tensors needs. Nothing of it was executed.");

    // ('storage', class, key, location, count); the location (cpu, cuda:0 …) does not matter. Files without archive have one more item.
    private PickledStorage Storage(object? id) =>
        id is object?[] and ["storage", StorageClass type, string key, string, long and >= 0 and var count, .. ([] or [null])]
            ? new PickledStorage(type.Type, key, count)
            : throw Invalid("a storage in its pickle is not described as torch.save does it.");

    private object? Reduce(object?[] call) => call is not [PickledCallable callable, object?[] arguments]
        ? throw Invalid("its pickle calls something that cannot be called.")
        : callable.Call(arguments) ?? throw Invalid($"its pickle calls {callable.Name} with arguments that torch.save does not write.");

    private PickleException Invalid(string detail) => new(path, detail);
}
