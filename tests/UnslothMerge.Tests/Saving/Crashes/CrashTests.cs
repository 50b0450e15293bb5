using System.Runtime.InteropServices;

namespace UnslothMerge.Tests.Saving.Crashes;

/// <summary>Lets every call of a save fail, and loses the power after every one.</summary>
public sealed class CrashTests : FileTests
{
    private const string Cloned = "model-00001-of-00002.safetensors";

    // EIO, EFBIG, EACCES, ENOSPC, EROFS, EMFILE, EPERM, EINTR, ENOMEM, EDQUOT, ESTALE, ENODEV.
    private static readonly int[] Numbers = [5, 27, 13, 28, 30, 24, 1, 4, 12, 122, 116, 19];

    // Each call fails in three of these ways, once or with all that follow it; by hand (UNSLOTHMERGE_FAULTS=all) in every one.
    private static readonly (int First, bool ForEver)[] Rounds = Environment.GetEnvironmentVariable("UNSLOTHMERGE_FAULTS") == "all"
        ? [.. Enumerable.Range(0, 2 * Numbers.Length).Select(r => (r, r >= Numbers.Length))] : [(0, false), (4, false), (8, true)];

    // What the destination holds is all that changes: the base lies elsewhere.
    private readonly string _place;
    private readonly string _out;
    private readonly WritePlan _old;
    private readonly WritePlan _new;
    private readonly string _oldModel;
    private readonly string _firstModel;
    private readonly string _newModel;

    public CrashTests()
    {
        _place = Directory.CreateDirectory(Temp["place"]).FullName;
        _out = Path.Combine(_place, "out");
        var tensors = Enumerable.Range(0, 2).Select(i => TinyTensor.Random($"w{i}.weight", [8, 8], i)).ToArray();

        // The base has two files, of which one is cloned: what changes is written into the clone.
        new TinyModel(tensors).WithLora(2, "w0").Write(Temp);
        TinyModel.SaveOn(new QuickDisk(), TinyModel.WritePlan(TinyModel.Plan(Temp["base"]), TensorType.F32, shard: 300), Temp["two"]);
        _new = TinyModel.WritePlan(TinyModel.Plan(Temp["two"], Temp["adapter"]), TensorType.F32, shard: 300);
        _old = TinyModel.WritePlan(TinyModel.Plan(Temp["base"]), TensorType.F32, shard: 600);
        _oldModel = Saved(_old);
        _firstModel = Saved(_new);
        TinyModel.SaveOn(new QuickDisk(), _old, _out);
        _newModel = Saved(_new);
        Assert.NotEqual(_oldModel, _newModel);
        Assert.Equal(2, _new.Shards.Length);
        Assert.Equal(Cloned, _new.Shards[0].Name);
        Assert.NotNull(_new.Shards[0].Origin);
    }

    /// <summary>The ways to the final name.</summary>
    public enum Way
    {
        /// <summary>Nothing has it.</summary>
        New,

        /// <summary>Another model has it, and both exchange their names.</summary>
        Exchange,

        /// <summary>Another model has it, and moves away first.</summary>
        Steps,

        /// <summary>It is a mount point with another model, whose files are moved one by one.</summary>
        Mount,

        /// <summary>It is an empty mount point.</summary>
        EmptyMount,
    }

    [Theory]
    [ClassData(typeof(Ways))]
    public void After_a_loss_of_power_at_any_call_the_name_holds_a_whole_model_and_the_next_save_is_as_any_other(Way way)
    {
        var states = 0;
        foreach (var (calls, state) in Recorded(way).States(Unflushed.Kept, Unflushed.Empty, Unflushed.Zeros))
        {
            states++;
            state.WriteTo(_place);
            AssertWhole(way, $"after {calls} calls");
            TinyModel.SaveOn(Disk(way), _new, _out, force: true);
            AssertOnly(New(way), $"saved again after {calls} calls");
        }

        Assert.True(states > 60, $"There were {states} states.");
    }

    [Theory]
    [ClassData(typeof(Ways))]
    public void What_a_killed_save_has_finished_is_not_done_again(Way way)
    {
        foreach (var (calls, state) in Recorded(way).States(Unflushed.Kept))
        {
            var shards = _new.Shards.Count(s => state.Find($"{Home(way)}/shards/{s.Name}.json") is not null);
            state.WriteTo(_place);
            if (shards > 0 && state.Find($"{Home(way)}/fingerprint.json") is not null && !IsLanded(way))
            {
                var disk = new RecordingDisk { Exchanges = way != Way.Steps, MountPoint = IsMount(way) ? _out : null, Clones = Cloned };
                TinyModel.SaveOn(disk, _new, _out, force: true);
                Assert.Equal(_new.Shards.Length - shards,
                    disk.Calls.Select(c => c is DiskCall.Create made ? made.Path : (c as DiskCall.CloneFile)?.Path)
                        .Count(p => p?.EndsWith(".safetensors", StringComparison.Ordinal) == true));
                AssertOnly(New(way), $"saved again after {calls} calls");
            }
        }
    }

    [Theory]
    [InlineData(Way.Steps)]
    [InlineData(Way.Mount)]
    public void A_save_that_goes_on_may_be_interrupted_as_well(Way way)
    {
        // Where most is at stake: shards are there, and the names are half moved.
        foreach (var (calls, state) in Recorded(way).States(Unflushed.Kept).Where(s => HasNote(way, s.State)).Take(6).ToList())
        {
            state.WriteTo(_place);
            var start = LostPower.Tree.Of(_place);
            var disk = new RecordingDisk { Exchanges = way != Way.Steps, MountPoint = IsMount(way) ? _out : null, Clones = Cloned };
            TinyModel.SaveOn(disk, _new, _out, force: true);
            foreach (var (more, again) in new LostPower(_place, disk.Calls, start).States(Unflushed.Empty))
            {
                again.WriteTo(_place);
                AssertWhole(way, $"after {calls} and {more} calls");
                TinyModel.SaveOn(Disk(way), _new, _out, force: true);
                AssertOnly(New(way), $"saved again after {calls} and {more} calls");
            }
        }
    }

    [Theory]
    [InlineData(Way.Steps)]
    [InlineData(Way.Mount)]
    public void A_model_that_was_half_replaced_comes_back_if_the_next_save_may_not_replace_it(Way way)
    {
        foreach (var (calls, state) in Recorded(way).States(Unflushed.Kept).Where(s => HasNote(way, s.State)).ToList())
        {
            state.WriteTo(_place);
            Errors.Expect(MergeError.DestinationExists, () => TinyModel.SaveOn(Disk(way), _new, _out));
            Assert.Equal(_oldModel, TinyModel.Fingerprint(_out, ".unslothmerge"));
        }
    }

    [Theory]
    [InlineData(Way.Exchange)]
    [InlineData(Way.Steps)]
    [InlineData(Way.Mount)]
    public void Whatever_call_fails_and_how_the_old_model_stays_or_the_new_one_is_whole(Way way)
    {
        Prepare(way);
        var start = LostPower.Tree.Of(_place);
        foreach (var (first, forEver) in Rounds)
        {
            FailingDisk disk;
            for (var call = 1; ; call++)
            {
                start.WriteTo(_place);
                var number = Numbers[(call + first) % Numbers.Length];
                disk = new FailingDisk(call, _ => Error(number), forEver)
                {
                    Exchanges = way != Way.Steps, MountPoint = IsMount(way) ? _out : null, Clones = Cloned,
                };
                var failure = Record.Exception(() => TinyModel.SaveOn(disk, _new, _out, force: true));
                if (disk.Failed.Count == 0)
                {
                    Assert.Null(failure);
                    break;
                }

                Assert.True(failure is MergeException or null, $"call {call}: {failure}");
                Assert.True(
                    failure is null || disk.Failed.Any(f => ((MergeException)failure).Error == ErrorOf(f, number)), $"{number}: {failure}");
                Assert.True(failure is not null || IsLanded(way), $"call {call} failed without an error.");
                AssertWhole(way, $"after call {call}, {disk.Failed.First()}");
                TinyModel.SaveOn(Disk(way), _new, _out, force: true);
                AssertOnly(New(way), $"saved again after call {call}");
            }
        }
    }

    [Theory]
    [InlineData(1)]
    [InlineData(7)]
    public void Reads_that_give_less_than_they_could_change_nothing(int bytes)
    {
        Prepare(Way.New);
        TinyModel.SaveOn(new ShortReads(bytes), _new, _out);
        AssertOnly(_firstModel, $"saved with reads of {bytes} bytes");
    }

    // As .NET has them: EPERM, EACCES and EBADF are no IOException.
    private static Exception Error(int number) => number is 1 or 9 or 13
        ? new UnauthorizedAccessException(Marshal.GetPInvokeErrorMessage(number))
        : new IOException(Marshal.GetPInvokeErrorMessage(number), number);

    private static MergeError ErrorOf(DiskCall call, int number) =>
        call is DiskCall.Open or DiskCall.Read ? MergeError.FileChanged
        : number switch
        {
            28 or 122 => MergeError.DiskFull,
            1 or 9 or 13 or 30 => MergeError.AccessDenied,
            _ => MergeError.WriteFailed,
        };

    private sealed class ShortReads(int bytes) : DelegatingDisk
    {
        public override int Read(SafeFileHandle file, Span<byte> into, long at) =>
            base.Read(file, into[..Math.Min(bytes, into.Length)], at);

        protected override void Before(DiskCall call)
        {
        }
    }

    private static bool IsMount(Way way) => way is Way.Mount or Way.EmptyMount;

    private static string Home(Way way) => IsMount(way) ? "out/.out.unslothmerge" : ".out.unslothmerge";

    private static bool HasNote(Way way, LostPower.Tree state) => state.Find($"{Home(way)}/swap.json") is not null;

    private QuickDisk Disk(Way way) => new() { Exchanges = way != Way.Steps, MountPoint = IsMount(way) ? _out : null, Clones = Cloned };

    private void Prepare(Way way)
    {
        Directory.Delete(_place, recursive: true);
        Directory.CreateDirectory(way == Way.EmptyMount ? _out : _place);
        if (way is Way.Exchange or Way.Steps or Way.Mount)
        {
            TinyModel.SaveOn(new QuickDisk(), _old, _out);
        }
    }

    private LostPower Recorded(Way way)
    {
        Prepare(way);
        var start = LostPower.Tree.Of(_place);
        var disk = new RecordingDisk { Exchanges = way != Way.Steps, MountPoint = IsMount(way) ? _out : null, Clones = Cloned };
        TinyModel.SaveOn(disk, _new, _out, force: true);
        AssertOnly(New(way), "saved");
        return new LostPower(_place, disk.Calls, start);
    }

    // The card keeps the text of the one that it replaces.
    private string Saved(WritePlan plan)
    {
        TinyModel.SaveOn(new QuickDisk(), plan, _out, force: true);
        var model = TinyModel.Fingerprint(_out);
        Directory.Delete(_out, recursive: true);
        return model;
    }

    private string New(Way way) => way is Way.New or Way.EmptyMount ? _firstModel : _newModel;

    private bool IsLanded(Way way) => Directory.Exists(_out) && TinyModel.Fingerprint(_out, ".unslothmerge") == New(way);

    // Where files are moved one by one, or the old model moves away first, a reader may find neither.
    private void AssertWhole(Way way, string when)
    {
        if (way is Way.New or Way.Exchange && Directory.Exists(_out))
        {
            var model = TinyModel.Fingerprint(_out);
            Assert.True(model == New(way) || (way == Way.Exchange && model == _oldModel), $"{when}:\n{model}");
        }
        else
        {
            Assert.True(way != Way.Exchange, $"There is no model {when}.");
        }
    }

    private void AssertOnly(string model, string when)
    {
        Assert.True(TinyModel.Fingerprint(_out) == model, $"{when}:\n{TinyModel.Fingerprint(_out)}");
        Assert.Equal([_out], Directory.EnumerateFileSystemEntries(_place));
    }

    private sealed class Ways : TheoryData<Way>
    {
        public Ways() => AddRange(Enum.GetValues<Way>());
    }
}
