using UnslothMerge.Tests.Hub.StandIn;

namespace UnslothMerge.Tests.Hub;

/// <summary>Tests that have a Hub.</summary>
public abstract class HubTests : FileTests
{
    private protected HubServer Server { get; } = new();

    private protected static CancellationToken Stop => TestContext.Current.CancellationToken;

    private protected ImpatientClock Clock { get; } = new();

    public override void Dispose()
    {
        Server.Dispose();
        base.Dispose();
        GC.SuppressFinalize(this);
    }

    /// <summary>A client that does not really wait.</summary>
    private protected HubClient Client(string? token = HubServer.WriteToken) =>
        new(Server.Settings(Temp["home"], token), clock: Clock);
}
