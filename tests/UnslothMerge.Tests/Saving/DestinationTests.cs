namespace UnslothMerge.Tests.Saving;

public sealed class DestinationTests : IDisposable
{
    private readonly TemporaryDirectory _directory = new();

    public DestinationTests()
    {
        TinyModel.Base(_directory["base"]);
        TinyModel.Lora(_directory["adapter"], 1);
        Directory.CreateDirectory(_directory["base/sub"]);
    }

    public void Dispose() => _directory.Dispose();

    [Theory]
    [InlineData("base", "is the base itself")]
    [InlineData("base/", "is the base itself")]
    [InlineData("other/../base", "is the base itself")]
    [InlineData("base/new", "lies inside the base")]
    [InlineData("base/sub/new/newer", "lies inside the base")]
    [InlineData("", "contains the base")]
    [InlineData("/", "contains the base")]
    [InlineData("adapter", "is the adapter itself")]
    [InlineData("adapter/merged", "lies inside the adapter")]
    public void What_the_merge_reads_is_never_written_to(string path, string why)
    {
        var error = Refused(path == "/" ? path : Path.Combine(_directory.Path, path), force: true);
        Assert.Contains(why, error.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("link", "base", "link", "is the base itself")]
    [InlineData("link", "base", "link/new", "lies inside the base")]
    [InlineData("link", "base/sub", "link/new", "lies inside the base")]
    [InlineData("link", "base/sub", "link/../new", null)] // '..' is taken off the path before links are followed, as the shell's cd does
    [InlineData("link", "nothing", "link", "is a file")] // .NET's word for a link that leads nowhere
    [InlineData("link", "base/nothing", "link", "is a file")]
    [InlineData("link", "base/config.json", "link", "is a file")]
    public void Links_do_not_hide_where_a_path_leads(string link, string target, string path, string? why)
    {
        Directory.CreateSymbolicLink(_directory[link], _directory[target]);
        if (why is null)
        {
            Check(_directory[path], force: false);
            return;
        }

        Assert.Contains(why, Refused(_directory[path], force: true).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_base_behind_a_link_is_protected_too()
    {
        Directory.CreateSymbolicLink(_directory["link"], _directory["base"]);
        var error = Assert.Throws<MergeException>(() => Destination.Check(_directory["base"], [("base", _directory["link"])], force: true));
        Assert.Contains("is the base itself", error.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("new")]
    [InlineData("deep/er/new")]
    [InlineData("base2")]
    [InlineData("bas")]
    public void Any_other_place_will_do(string path) => Assert.False(Check(_directory[path], force: false).Exists);

    [Fact]
    public void An_empty_directory_needs_no_force()
    {
        Directory.CreateDirectory(_directory["empty"]);
        Assert.True(Check(_directory["empty"], force: false).Exists);
    }

    [Fact]
    public void An_existing_model_is_replaced_with_force_only()
    {
        TinyModel.Base(_directory["old"]);
        Assert.Contains("-Force", Refused(_directory["old"], force: false).Advice, StringComparison.Ordinal);
        Check(_directory["old"], force: true);
    }

    [Fact]
    public void Force_does_not_delete_what_belongs_to_no_model()
    {
        TinyModel.Base(_directory["old"]);
        File.WriteAllText(_directory["old/thesis.docx"], "");
        var error = Refused(_directory["old"], force: true);
        Assert.Equal(["thesis.docx"], error.Details);
        Assert.Contains("thesis.docx", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_file_is_no_destination()
    {
        File.WriteAllText(_directory["file"], "");
        Assert.Contains("is a file", Refused(_directory["file"], force: true).Message, StringComparison.Ordinal);
    }

    private Destination Check(string path, bool force) =>
        Destination.Check(path, [("base", _directory["base"]), ("adapter", _directory["adapter"])], force);

    private MergeException Refused(string path, bool force)
    {
        var error = Assert.Throws<MergeException>(() => Check(path, force));
        Assert.Equal(MergeError.InvalidDestination, error.Error);
        Assert.Contains($"'{path}'", error.Message, StringComparison.Ordinal);
        Assert.False(string.IsNullOrEmpty(error.Advice));
        return error;
    }
}
