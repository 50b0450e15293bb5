using UnslothMerge.Execution;
using UnslothMerge.Hub.Fetching;

namespace UnslothMerge.Saving;

/// <summary>Holds shards of a base that is read from the Hub back from the journal until all that they were made of is known to be right: a
/// later save would trust them.</summary>
internal sealed class VerifiedShards(HubStream stream, WritePlan plan, Action<FinishedShard> written)
{
    private readonly List<FinishedShard> _waiting = [];

    /// <summary>Takes a shard, and hands on those that can be trusted by now.</summary>
    public void Add(FinishedShard shard)
    {
        _waiting.Add(shard);
        foreach (var right in _waiting.Where(s => stream.AreRight(Inputs(s))).ToList())
        {
            _waiting.Remove(right);
            written(right);
        }
    }

    /// <summary>Hands on what waits, once the stream is complete, and all of it right.</summary>
    public void Complete()
    {
        _waiting.ForEach(written);
        _waiting.Clear();
    }

    private IEnumerable<StoredFile> Inputs(FinishedShard shard) =>
        plan.Shards.First(s => s.Name == shard.Name).Tensors.SelectMany(t => t.Inputs).Select(i => i.File).Distinct();
}
