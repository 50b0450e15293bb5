namespace UnslothMerge.Bench.Measuring;

/// <summary>What one run of something took.</summary>
internal readonly record struct Measurement(double Seconds, double ProcessSeconds, long? PeakBytes);
