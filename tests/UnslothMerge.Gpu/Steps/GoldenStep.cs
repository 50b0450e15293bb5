using UnslothMerge.Tests;

namespace UnslothMerge.Gpu.Steps;

/// <summary>Every golden that is there and that a device has a part in.</summary>
internal sealed class GoldenStep() : Step("goldens", 90)
{
    protected override void Do(Settings settings)
    {
        var (passed, failures) = (0, new List<Exception>());
        foreach (var name in DeviceGolden.Cases)
        {
            try
            {
                DeviceGolden.Check(name, settings.Device);
                passed++;
            }
            catch (Exception e) when (e is not OutOfMemoryException)
            {
                Say($"{name}: {e}");
                failures.Add(e);
            }
        }

        Say($"{passed} goldens passed, {failures.Count} failed; each whole, row by row and halved");
        if (passed == 0 || failures.Count > 0)
        {
            throw new AggregateException("Not all goldens passed.", failures.Take(1));
        }
    }
}
