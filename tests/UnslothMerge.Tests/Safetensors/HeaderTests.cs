using static UnslothMerge.Safetensors.SafetensorsError;

namespace UnslothMerge.Tests.Safetensors;

/// <summary>Every rule of the format, in the order in which the reference implementation checks them.</summary>
public sealed class HeaderTests : FileTests
{
    // The header, the bytes of data after it, and the first rule that it breaks.
    public static IReadOnlyCollection<ITheoryDataRow> Broken => new TheoryData<string, int, SafetensorsError>
    {
        // JSON
        { "", 0, InvalidHeaderDeserialization },
        { "[]", 0, InvalidHeaderDeserialization },
        { "null", 0, InvalidHeaderDeserialization },
        { "{", 0, InvalidHeaderDeserialization },
        { "{}{}", 0, InvalidHeaderDeserialization },
        { "{} x", 0, InvalidHeaderDeserialization },
        { """{"a":{"dtype":"U8","shape":[],"data_offsets":[0,1]},}""", 1, InvalidHeaderDeserialization },
        { """{"a":5}""", 0, InvalidHeaderDeserialization },
        { """{"a":{"dtype":"F128","shape":[],"data_offsets":[0,16]}}""", 16, InvalidHeaderDeserialization },
        { """{"a":{"dtype":"f32","shape":[],"data_offsets":[0,4]}}""", 4, InvalidHeaderDeserialization },
        { """{"a":{"dtype":7,"shape":[],"data_offsets":[0,4]}}""", 4, InvalidHeaderDeserialization },
        { """{"a":{"shape":[],"data_offsets":[0,4]}}""", 4, InvalidHeaderDeserialization },
        { """{"a":{"dtype":"F32","data_offsets":[0,4]}}""", 4, InvalidHeaderDeserialization },
        { """{"a":{"dtype":"F32","shape":[]}}""", 4, InvalidHeaderDeserialization },
        { """{"a":{"dtype":"F32","shape":null,"data_offsets":[0,4]}}""", 4, InvalidHeaderDeserialization },
        { """{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}""", 4, InvalidHeaderDeserialization },
        { """{"a":{"dtype":"F32","shape":[1.0],"data_offsets":[0,4]}}""", 4, InvalidHeaderDeserialization },
        { """{"a":{"dtype":"F32","shape":[1e0],"data_offsets":[0,4]}}""", 4, InvalidHeaderDeserialization },
        { """{"a":{"dtype":"F32","shape":["1"],"data_offsets":[0,4]}}""", 4, InvalidHeaderDeserialization },
        { """{"a":{"dtype":"F32","shape":[18446744073709551616],"data_offsets":[0,4]}}""", 4, InvalidHeaderDeserialization },
        { """{"a":{"dtype":"F32","shape":[],"data_offsets":[0]}}""", 4, InvalidHeaderDeserialization },
        { """{"a":{"dtype":"F32","shape":[],"data_offsets":[0,4,8]}}""", 4, InvalidHeaderDeserialization },
        { """{"__metadata__":{"format":1}}""", 0, InvalidHeaderDeserialization },
        { """{"__metadata__":[]}""", 0, InvalidHeaderDeserialization },
        { """{"\ud800":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}""", 4, InvalidHeaderDeserialization },

        // Duplicate keys of any kind.
        { """{"a":{"dtype":"U8","shape":[],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[],"data_offsets":[1,2]}}""", 2,
            InvalidHeaderDeserialization },
        { """{"a":{"dtype":"U8","shape":[],"data_offsets":[0,1]},"\u0061":{"dtype":"U8","shape":[],"data_offsets":[1,2]}}""", 2,
            InvalidHeaderDeserialization },
        { """{"__metadata__":{},"__metadata__":{}}""", 0, InvalidHeaderDeserialization },
        { """{"__metadata__":{"a":"1","a":"2"}}""", 0, InvalidHeaderDeserialization },
        { """{"a":{"dtype":"U8","dtype":"U8","shape":[],"data_offsets":[0,1]}}""", 1, InvalidHeaderDeserialization },
        { """{"a":{"dtype":"U8","shape":[],"sh\u0061pe":[],"data_offsets":[0,1]}}""", 1, InvalidHeaderDeserialization },

        // A bad dtype is found before bad offsets.
        { """{"a":{"dtype":"U8","shape":[9],"data_offsets":[3,1]},"b":{"dtype":"X","shape":[],"data_offsets":[0,1]}}""", 1,
            InvalidHeaderDeserialization },

        // Offsets: not from 0, a gap, an overlap, backwards; found before anything that the shape says.
        { """{"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}""", 2, InvalidOffset },
        { """{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"U8","shape":[1],"data_offsets":[2,3]}}""", 3,
            InvalidOffset },
        { """{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}}""", 3,
            InvalidOffset },
        { """{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}""", 2,
            InvalidOffset },
        { """{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[1],"data_offsets":[2,1]}}""", 2,
            InvalidOffset },
        { """{"a":{"dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[1,2]}}""", 2, InvalidOffset },

        // Overflow of the elements, of the bits, of a dimension.
        { """{"a":{"dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,0]}}""", 0, ValidationOverflow },
        { """{"a":{"dtype":"U8","shape":[4294967296,4294967296,0],"data_offsets":[0,0]}}""", 0, ValidationOverflow },
        { """{"a":{"dtype":"U8","shape":[2305843009213693952],"data_offsets":[0,0]}}""", 0, ValidationOverflow },
        { """{"a":{"dtype":"F4","shape":[9223372036854775807],"data_offsets":[0,0]}}""", 0, ValidationOverflow },

        // Bits that are no bytes are found before the length is compared.
        { """{"a":{"dtype":"F4","shape":[3],"data_offsets":[0,2]}}""", 2, MisalignedSlice },
        { """{"a":{"dtype":"F6_E2M3","shape":[2],"data_offsets":[0,9]}}""", 9, MisalignedSlice },

        { """{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}""", 4, TensorInvalidInfo },
        { """{"a":{"dtype":"F32","shape":[],"data_offsets":[0,0]}}""", 0, TensorInvalidInfo },
        { """{"a":{"dtype":"F32","shape":[0],"data_offsets":[0,4]}}""", 4, TensorInvalidInfo },
        { """{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}""", 100, TensorInvalidInfo },

        { """{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}""", 7, MetadataIncompleteBuffer },
        { """{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}""", 9, MetadataIncompleteBuffer },
        { "{}", 1, MetadataIncompleteBuffer },
        { """{"a":{"dtype":"U8","shape":[2305843009213693951],"data_offsets":[0,2305843009213693951]}}""", 7, MetadataIncompleteBuffer },
    };

    [Theory, MemberData(nameof(Broken))]
    internal void A_broken_header_is_named_for_the_first_rule_that_it_breaks(string json, int data, SafetensorsError expected)
    {
        WriteRaw(Temp["f.safetensors"], Encoding.UTF8.GetBytes(json), data);
        Expect(expected, expected is >= InvalidOffset and <= TensorInvalidInfo ? ": [ab]" : "");
    }

    [Theory]
    [InlineData("", HeaderTooSmall)]
    [InlineData("00000000000000", HeaderTooSmall)]
    [InlineData("FFFFFFFFFFFFFFFF", HeaderTooLarge)]
    [InlineData("01E1F50500000000", HeaderTooLarge)] // 100,000,001
    [InlineData("00E1F50500000000", InvalidHeaderLength)] // 100,000,000
    [InlineData("03000000000000007B7D", InvalidHeaderLength)]
    [InlineData("0300000000000000FF7B7D", InvalidHeader)]
    [InlineData("030000000000000022C022", InvalidHeader)]
    internal void A_broken_beginning_is_named(string hex, SafetensorsError expected)
    {
        File.WriteAllBytes(Temp["f.safetensors"], Convert.FromHexString(hex));
        Expect(expected, "");
    }

    [Theory]
    [InlineData("{}", 0, 0)]
    [InlineData("  {}  ", 0, 0)]
    [InlineData("""{"__metadata__":{}}""", 0, 0)]
    [InlineData("""{"__metadata__":null}""", 0, 0)]
    [InlineData("""{"s":{"dtype":"F64","shape":[],"data_offsets":[0,8]}}""", 8, 1)]
    [InlineData("""{"z":{"dtype":"F32","shape":[0,1099511627776],"data_offsets":[0,0]}}""", 0, 1)]
    [InlineData(
        """{"z":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"y":""" +
        """{"dtype":"F32","shape":[5,0],"data_offsets":[1,1]}}""", 1, 3)]
    [InlineData("""{"h":{"dtype":"F4","shape":[4],"data_offsets":[0,2],"more":{"x":[1,{}]}}}""", 2, 1)]
    public void What_the_format_allows_is_read(string json, int data, int tensors)
    {
        WriteRaw(Temp["f.safetensors"], Encoding.UTF8.GetBytes(json), data);
        Assert.Equal(tensors, SafetensorsFile.Open(Temp["f.safetensors"]).Tensors.Count);
    }

    [Fact]
    public void A_file_that_is_not_there_is_named()
    {
        Errors.Expect(() => SafetensorsFile.Open("/nowhere/model.safetensors"), "/nowhere/model.safetensors");
    }

    // Whatever is done to a valid file, the reader says what is wrong or reads something consistent; it never fails in another way.
    [Fact]
    public void Damaged_files_give_a_safetensors_error_or_a_consistent_header()
    {
        const string json =
            """{"__metadata__":{"format":"pt"},"model.a":{"dtype":"BF16","shape":[2,3],"data_offsets":[0,12]},"b\u00e9":""" +
            """{"dtype":"F32","shape":[],"data_offsets":[12,16]}}""";
        WriteRaw(Temp["valid"], Encoding.UTF8.GetBytes(json), 16);
        var valid = File.ReadAllBytes(Temp["valid"]);
        byte[] telling = [.. "{}[],:\"\\0123456789-.eE \ntfnulBF"u8];

        var change = Gen.Select(Gen.Int[0, valid.Length - 1], Gen.OneOf(Gen.Byte, Gen.Int[0, telling.Length - 1].Select(i => telling[i])));
        var path = Temp["damaged"];
        Gen.Select(change.Array[0, 6], Gen.Int[0, valid.Length], Gen.Bool, Gen.Byte.Array[0, 4]).Sample(
            (changes, length, cut, tail) =>
            {
                var bytes = valid.ToArray();
                foreach (var (position, value) in changes)
                {
                    bytes[position] = value;
                }

                File.WriteAllBytes(path, [.. cut ? bytes[..length] : bytes, .. cut ? [] : tail]);
                Check(path);
            },
            iter: 3000,
            threads: 1);
    }

    [Fact]
    public void Random_headers_give_a_safetensors_error_or_a_consistent_header()
    {
        var path = Temp["random"];
        string[] words = ["{", "}", "[", "]", ",", ":", "\"a\"", "\"b\"", "\"__metadata__\"", "\"dtype\"", "\"shape\"", "\"data_offsets\"",
            "\"F32\"", "\"F4\"", "0", "1", "4", "-1", "1e9", "18446744073709551615", "null", "\"\\ud83d\"", "é"];
        Gen.OneOf(Gen.Byte.Array[0, 60],
            Gen.Int[0, words.Length - 1].Array[0, 24].Select(w => Encoding.UTF8.GetBytes(string.Concat(w.Select(i => words[i]))))).Sample(
            header =>
            {
                WriteRaw(path, header, 4);
                Check(path);
            },
            iter: 3000,
            threads: 1);
    }

    // The message names the file, the rule, and the tensor where one breaks it.
    private void Expect(SafetensorsError error, string tensor) => Assert.Matches($@"f\.safetensors.*\({error}{tensor}\)",
        Assert.Throws<SafetensorsException>(() => SafetensorsFile.Open(Temp["f.safetensors"])).Message);

    // The text of a header, and some data.
    private static void WriteRaw(string path, byte[] json, int data) =>
        File.WriteAllBytes(path, [.. BitConverter.GetBytes((long)json.Length), .. json, .. new byte[data]]);

    private static void Check(string path)
    {
        SafetensorsFile file;
        try
        {
            file = SafetensorsFile.Open(path);
        }
        catch (SafetensorsException)
        {
            return;
        }

        var header = 8 + BinaryPrimitives.ReadInt64LittleEndian(File.ReadAllBytes(path));
        Assert.Equal(file.File.Length, header + file.Tensors.Sum(t => t.Length));
        Assert.All(file.Tensors, t => Assert.Equal(t.Length * 8, t.Shape.Count() * t.Type.Bits()));
    }
}
