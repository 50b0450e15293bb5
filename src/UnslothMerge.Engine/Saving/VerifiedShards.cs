using UnslothMerge.Execution;
using UnslothMerge.Hub.Fetching;
using UnslothMerge.Planning;

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

    private IEnumerable<StoredFile> Inputs(FinishedShard shard) =>
        plan.Shards.First(s => s.Name == shard.Name).Tensors.Select(t => t.Tensor)
            .SelectMany(t => t.Source.Inputs.Concat(t.Terms.SelectMany(d => d.Term.Inputs))).Select(i => i.File).Distinct();
}
