namespace UnslothMerge.Bench.Measuring;

/// <summary>What one run of something took.</summary>
/// <param name="Seconds">The work alone.</param>
/// <param name="ProcessSeconds">The whole process, its start included.</param>
/// <param name="PeakBytes">The most memory it held; null if unknown.</param>
internal readonly record struct Measurement(double Seconds, double ProcessSeconds, long? PeakBytes);
