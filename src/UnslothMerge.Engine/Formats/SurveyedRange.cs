namespace UnslothMerge.Formats;

/// <summary>What a survey found of some tensors: their largest magnitude, and the dtype that holds all their values.</summary>
internal readonly record struct SurveyedRange(float Largest, TensorType Type)
{
    /// <summary>That of both.</summary>
    public SurveyedRange With(SurveyedRange other) =>
        new(MathF.Max(Largest, other.Largest), Type == other.Type ? Type : TensorType.F32);
}
