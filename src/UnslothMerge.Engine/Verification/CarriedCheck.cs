using System.Security.Cryptography;
using UnslothMerge.Tokenizers;

namespace UnslothMerge.Verification;

/// <summary>Compares the files beside the weights with those that they were copied from: a tokenizer whose ids were swapped is a
/// complete one, and yet another one.</summary>
internal static class CarriedCheck
{
    /// <summary>Compares them byte for byte.</summary>
    /// <param name="files">Relative path → the file that it is a copy of.</param>
    /// <param name="output">The saved model's directory.</param>
    public static VerificationResult Run(IReadOnlyDictionary<string, string> files, string output)
    {
        var present = files.Where(f => File.Exists(Path.Combine(output, f.Key))).ToList();
        try
        {
            var different = present.Where(f => !IsCopy(f.Key, Path.Combine(output, f.Key), f.Value))
                .Select(f => $"{f.Key} is not that of '{Path.GetDirectoryName(f.Value)}'").ToList();
            return different.Count > 0
                ? new VerificationResult("Carried", false, string.Join("; ", different))
                : new VerificationResult("Carried", true, $"{Amount.Text(present.Count, "file")} as in base or adapter, byte for byte");
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return new VerificationResult("Carried", false, e.Message);
        }
    }

    // A save may give the generation config another end-of-text token; TokenizerCheck compares that with the tokenizer.
    private static bool IsCopy(string name, string copy, string source) =>
        Hash(copy).SequenceEqual(Hash(source))
        || (name == TokenIds.GenerationConfigName && JsonNode.DeepEquals(WithoutTokens(copy), WithoutTokens(source)));

    private static JsonObject WithoutTokens(string path)
    {
        var json = JsonFile.Read(path, MergeError.InvalidModel);
        foreach (var role in SpecialToken.Roles)
        {
            json.Remove($"{role}_token_id");
        }

        return json;
    }

    private static byte[] Hash(string path)
    {
        using var stream = new FileStream(RegularFile.Open(path), FileAccess.Read);
        return SHA256.HashData(stream);
    }
}
