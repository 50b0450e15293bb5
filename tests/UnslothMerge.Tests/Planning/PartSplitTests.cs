namespace UnslothMerge.Tests.Planning;

public sealed class PartSplitTests
{
    [Theory]
    [InlineData("1 1 1 1", 2, "1 1 2 2")]
    [InlineData("1 1 1 1", 4, "1 2 3 4")]
    [InlineData("9 1 1 1", 2, "1 2 2 2")]
    [InlineData("1 1 1 9", 3, "1 1 2 3")]
    [InlineData("5", 1, "1")]
    public void Shards_are_split_by_their_bytes(string costs, int parts, string expected) =>
        Assert.Equal(expected, string.Join(' ', PartSplit.Split([.. costs.Split(' ').Select(long.Parse)], parts)));

    [Fact]
    public void No_part_is_empty_and_the_costliest_costs_least() =>
        Gen.Select(Gen.Long[1, 30].Array[1, 9], Gen.Int[1, 9]).Where((costs, parts) => parts <= costs.Length).Sample((costs, parts) =>
    {
        var numbers = PartSplit.Split(costs, parts);
        Assert.Equal(Enumerable.Range(1, parts), numbers.Distinct());
        Assert.Equal(numbers.Order(), numbers);
        var most = Enumerable.Range(1, parts).Max(p => costs.Where((_, i) => numbers[i] == p).Sum());
        Assert.Equal(Best(costs, parts), most);
    });

    // By trying every end of the first part.
    private static long Best(ReadOnlySpan<long> costs, int parts)
    {
        if (parts == 1)
        {
            return Sum(costs);
        }

        var best = long.MaxValue;
        for (var first = 1; first <= costs.Length - parts + 1; first++)
        {
            best = Math.Min(best, Math.Max(Sum(costs[..first]), Best(costs[first..], parts - 1)));
        }

        return best;
    }

    private static long Sum(ReadOnlySpan<long> costs)
    {
        var sum = 0L;
        foreach (var cost in costs)
        {
            sum += cost;
        }

        return sum;
    }
}
