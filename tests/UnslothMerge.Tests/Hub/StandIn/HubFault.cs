namespace UnslothMerge.Tests.Hub.StandIn;

/// <summary>What goes wrong with a request.</summary>
public enum FaultKind
{
    /// <summary>It is answered with a status, and not done.</summary>
    Status,

    /// <summary>The connection is reset before it is done; where bytes are sent, after some of them.</summary>
    Reset,

    /// <summary>It is done, and the connection is reset in place of the answer.</summary>
    LostAnswer,

    /// <summary>The body of the answer ends early.</summary>
    Truncated,

    /// <summary>One bit of the body is another.</summary>
    FlippedBit,
}

/// <summary>A fault that requests meet: those with a method and a part of the path, from one on, some times.</summary>
internal sealed record HubFault(FaultKind Kind, string Method, string Path, int Skip = 0, int Times = 1)
{
    /// <summary>The status, of <see cref="FaultKind.Status"/>.</summary>
    public int Status { get; init; } = 503;

    /// <summary>What the answer says, of <see cref="FaultKind.Status"/>.</summary>
    public string Message { get; init; } = "";

    /// <summary>Headers of the answer, of <see cref="FaultKind.Status"/>.</summary>
    public IReadOnlyList<(string Name, string Value)> Headers { get; init; } = [];

    /// <summary>The byte where the body ends or has another bit, or after which a connection is reset.</summary>
    public long At { get; init; }
}
