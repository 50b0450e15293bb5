namespace UnslothMerge.Tests.Simd;

/// <summary>Every width runs on every machine, emulated by .NET where need be, so the tests never skip one.</summary>
internal static class Widths
{
    /// <summary>The values of SimdWidth, which is internal and so no parameter of a test.</summary>
    public static TheoryData<int> All => [128, 256, 512];
}
