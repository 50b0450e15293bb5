namespace UnslothMerge.Hub;

/// <summary>A value of an answer's JSON. One of another kind than it should be is an error that names the call and the value.</summary>
internal readonly record struct HubAnswer(HubCall Call, JsonElement Value, string Name)
{
    /// <summary>False for null, and for what is missing.</summary>
    public bool IsThere => Value.ValueKind is not (JsonValueKind.Undefined or JsonValueKind.Null);

    public bool IsObject => Value.ValueKind == JsonValueKind.Object;

    /// <summary>A text; null if there is none.</summary>
    public string? Text => Is(JsonValueKind.String) ? Value.GetString() : null;

    /// <summary>A text that must be there.</summary>
    public string RequiredText => Text ?? throw Odd("is missing");

    /// <summary>The id of a commit, which must be there.</summary>
    public string RequiredCommit => HubReference.IsCommit(RequiredText) ? RequiredText : throw Odd($"is '{Text}', which is no commit");

    /// <summary>A whole number; null if there is none.</summary>
    public long? Number => !Is(JsonValueKind.Number) ? null
        : Value.TryGetInt64(out var number) ? number : throw Odd($"is {Value.GetRawText()}, which is no whole number");

    /// <summary>A whole number that must be there.</summary>
    public long RequiredNumber => Number ?? throw Odd("is missing");

    /// <summary>True if it is there, and true.</summary>
    public bool IsTrue => Value.ValueKind != JsonValueKind.False && Is(JsonValueKind.True);

    /// <summary>The values of a list; none if it is not there.</summary>
    public IReadOnlyList<HubAnswer> Items
    {
        get
        {
            var (call, name) = (Call, $"a value of {Name}");
            return Is(JsonValueKind.Array) ? [.. Value.EnumerateArray().Select(v => new HubAnswer(call, v, name))] : [];
        }
    }

    /// <summary>The values of an object, by their names; none if it is not there.</summary>
    public IReadOnlyDictionary<string, HubAnswer> Members
    {
        get
        {
            var members = new Dictionary<string, HubAnswer>(StringComparer.Ordinal);
            foreach (var member in Is(JsonValueKind.Object) ? Value.EnumerateObject() : default)
            {
                members[member.Name] = new HubAnswer(Call, member.Value, $"'{member.Name}'");
            }

            return members;
        }
    }

    /// <summary>A value of an object, which may be missing; of what is not there nothing is.</summary>
    public HubAnswer this[string key] =>
        new(Call, Is(JsonValueKind.Object) && Value.TryGetProperty(key, out var value) ? value : default, $"'{key}'");

    /// <summary>The error of an answer that cannot be what was asked for.</summary>
    public HubException Odd(string why) => HubErrors.NoHub(Call, new JsonException($"{Name} {why}."));

    // False if it is not there.
    private bool Is(JsonValueKind kind) =>
        IsThere && (Value.ValueKind == kind ? true
        : throw Odd($"is {NameOf(Value.ValueKind)} and not {NameOf(kind)}"));

    private static string NameOf(JsonValueKind kind) => kind switch
    {
        JsonValueKind.Object => "an object",
        JsonValueKind.Array => "a list",
        JsonValueKind.String => "a text",
        JsonValueKind.Number => "a number",
        _ => "true or false",
    };
}
