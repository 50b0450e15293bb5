using System.Text.Encodings.Web;

namespace UnslothMerge.Tests.Fuzzing;

/// <summary>Damages a JSON text: values of other types and sizes, keys that are lacking, new, renamed or twice there.</summary>
internal static class JsonMutations
{
    // Stands for a value that no tree of nodes can hold, until the tree is text.
    private const string Mark = "fuzz:value:";

    private static readonly JsonSerializerOptions Relaxed = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    private static readonly JsonDocumentOptions Strict = new() { AllowDuplicateProperties = false };

    private static readonly string[] Values =
    [
        "null", "true", "false", "0", "-0", "1", "-1", "2", "7", "0.5", "8.7", "16", "1e308", "1e999", "-1e999", "1e-400", "NaN",
        "Infinity", "-Infinity", "2147483647", "2147483648", "-2147483648", "4294967296", "9223372036854775807", "9223372036854775808",
        "-9223372036854775808", "18446744073709551616", "1e20", "[]", "{}", "[[]]", "[null]", "[0, 0]", "[1, 2, 3]", "[-1, \"x\"]",
        "[2147483648, 0]", "[9223372036854775807, 9223372036854775807, 0]", "{\"a\": null}", "{\"a\": 1, \"a\": 2}", "{\"\": []}", "\"\"",
        "\"1\"", "\"16\"", "\"true\"", "\"\\ud800\"", "\"\\u0000\"", "\"../x\"", "\"/\"", "\".\"", "\"*\"", "\"(\"", "\"[\"",
        "\"re:(a+)+$\"", "\"(.*.*)*=\"", "\"(([a-z._0-9])+.)+([A-Z]([a-z])+)+$\"", "\"(?P<x>\"", "\"\\\\\"", "\"all-linear\"",
        "\"torch.float33\"",
        new string('[', 200) + new string(']', 200), string.Concat(Enumerable.Repeat("{\"a\":", 70)) + "0" + new string('}', 70),
        "\"" + new string('x', 70_000) + "\"",
    ];

    /// <summary>A damaged text; changed bytes, where it is no JSON.</summary>
    public static byte[] Apply(byte[] text, Random random)
    {
        JsonNode root;
        try
        {
            root = JsonNode.Parse(text, documentOptions: Strict)!;
        }
        catch (JsonException)
        {
            return Mutations.Bytes(text, random);
        }

        for (var times = random.Next(3) == 0 ? random.Next(2, 5) : 1; times > 0; times--)
        {
            root = Damage(root, random);
        }

        return Text(root);
    }

    /// <summary>The text of a tree, with the values that only a text can hold.</summary>
    public static byte[] Text(JsonNode root)
    {
        var text = root.ToJsonString(Relaxed);
        for (var i = 0; i < Values.Length && text.Contains(Mark, StringComparison.Ordinal); i++)
        {
            text = text.Replace($"\"{Mark}{i}\"", Values[i], StringComparison.Ordinal);
        }

        return Encoding.UTF8.GetBytes(text);
    }

    /// <summary>Damages one place of a tree.</summary>
    public static JsonNode Damage(JsonNode root, Random random)
    {
        var places = Places(root).ToList();
        if (places.Count == 0)
        {
            return Odd(random);
        }

        var (parent, key) = random.Of(places);
        var old = parent is JsonObject o ? o[(string)key] : parent[(int)key];
        switch (random.Next(9))
        {
            case 0 or 1 or 2:
                Put(parent, key, Odd(random));
                break;
            case 3:
                Remove(parent, key);
                break;
            case 4:
                var (from, place) = random.Of(places);
                Put(parent, key, (from is JsonObject other ? other[(string)place] : from[(int)place])?.DeepClone());
                break;
            case 5 when parent is JsonObject renamed:
                Remove(parent, key);
                renamed[random.Of(Mutations.Known)] = old?.DeepClone();
                break;
            case 6:
                (parent as JsonObject ?? root as JsonObject)?[random.Of(Mutations.Known)] =
                    random.Next(2) == 0 ? Odd(random) : random.Of(Mutations.Known);
                break;
            case 7 when old is JsonValue number && number.GetValueKind() == JsonValueKind.Number:
                Put(parent, key, Other(double.Parse(number.ToJsonString(), CultureInfo.InvariantCulture), random));
                break;
            default:
                Put(parent, key, random.Of(Mutations.Known));
                break;
        }

        return root;
    }

    private static JsonValue Other(double number, Random random)
    {
        var other = random.Next(6) switch
        {
            0 => number + 1,
            1 => number - 1,
            2 => -number,
            3 => number * 2,
            4 => Math.Floor(number / 2),
            _ => number * 65536,
        };
        return other == Math.Truncate(other) && Math.Abs(other) < 1e15 ? JsonValue.Create((long)other) : JsonValue.Create(other);
    }

    private static JsonValue Odd(Random random) => JsonValue.Create($"{Mark}{random.Next(Values.Length)}");

    private static void Put(JsonNode parent, object key, JsonNode? value)
    {
        if (parent is JsonObject o)
        {
            o[(string)key] = value;
        }
        else
        {
            parent[(int)key] = value;
        }
    }

    private static void Remove(JsonNode parent, object key)
    {
        if (parent is JsonObject o)
        {
            o.Remove((string)key);
        }
        else
        {
            ((JsonArray)parent).RemoveAt((int)key);
        }
    }

    private static IEnumerable<(JsonNode Parent, object Key)> Places(JsonNode? node) => node switch
    {
        JsonObject o => o.SelectMany(p => Places(p.Value).Prepend((o, p.Key))),
        JsonArray a => a.SelectMany((v, i) => Places(v).Prepend((a, i))),
        _ => [],
    };
}
