namespace UnslothMerge.Hub.Fetching;

/// <summary>How fast several connections are, so that one that stays far behind the others can be replaced.</summary>
internal sealed class RateBoard(TimeProvider clock)
{
    // Long enough for a connection to start, and for a pause that all have.
    private static readonly TimeSpan Window = TimeSpan.FromSeconds(3);

    /// <summary>The others that must agree.</summary>
    private const int MinOthers = 2;

    /// <summary>A connection is too slow at less than this share of the middle one's rate.</summary>
    private const double Share = 0.2;

    private readonly Lock _gate = new();
    private readonly List<Member> _members = [];

    /// <summary>Takes a connection in until it is disposed.</summary>
    public Member Join()
    {
        var member = new Member(this);
        lock (_gate)
        {
            _members.Add(member);
        }

        return member;
    }

    internal sealed class Member : IDisposable
    {
        private readonly RateBoard _board;
        private long _start;
        private long _bytes;
        private double? _rate;

        internal Member(RateBoard board)
        {
            _board = board;
            _start = board.Time;
        }

        /// <summary>Counts bytes that came; true if the connection has been far slower than the others for a while.</summary>
        public bool IsTooSlow(int bytes)
        {
            _bytes += bytes;
            var elapsed = _board.Since(_start);
            if (elapsed < Window)
            {
                return false;
            }

            lock (_board._gate)
            {
                _rate = _bytes / elapsed.TotalSeconds;
                (_bytes, _start) = (0, _board.Time);
                var others = _board._members.Where(m => m != this && m._rate is not null).Select(m => m._rate!.Value).Order().ToList();
                return others.Count >= MinOthers && _rate < Share * others[others.Count / 2];
            }
        }

        public void Dispose()
        {
            lock (_board._gate)
            {
                _board._members.Remove(this);
            }
        }
    }

    private long Time => clock.GetTimestamp();

    private TimeSpan Since(long start) => clock.GetElapsedTime(start);
}
