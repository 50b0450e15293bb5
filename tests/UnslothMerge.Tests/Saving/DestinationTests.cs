namespace UnslothMerge.Tests.Saving;

public sealed class DestinationTests : FileTests
{
    public DestinationTests()
    {
        new TinyModel().WithLora(1).Write(Temp);
        Directory.CreateDirectory(Temp["base/sub"]);
    }

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
    public void What_the_merge_reads_is_never_written_to(string path, string why) =>
        Refused(path == "/" ? path : Path.Combine(Temp.Path, path), force: true, why);

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
        Directory.CreateSymbolicLink(Temp[link], Temp[target]);
        _ = why is null ? (object)Check(Temp[path], force: false) : Refused(Temp[path], force: true, why);
    }

    [Fact]
    public void A_base_behind_a_link_is_protected_too()
    {
        Directory.CreateSymbolicLink(Temp["link"], Temp["base"]);
        Errors.Expect(() => Destination.Check(Temp["base"], [("base", Temp["link"])], force: true), "is the base itself");
    }

    [Theory]
    [InlineData("new")]
    [InlineData("deep/er/new")]
    [InlineData("base2")]
    [InlineData("bas")]
    public void Any_other_place_will_do(string path) => Assert.False(Check(Temp[path], force: false).Exists);

    [Fact]
    public void An_empty_directory_needs_no_force()
    {
        Directory.CreateDirectory(Temp["empty"]);
        Assert.True(Check(Temp["empty"], force: false).Exists);
    }

    [Fact]
    public void An_existing_model_is_replaced_with_force_only()
    {
        TinyModel.Base(Temp["old"]);
        Refused(Temp["old"], force: false, "-Force", MergeError.DestinationExists);
        Check(Temp["old"], force: true);
    }

    [Theory]
    [InlineData("thesis.docx")]
    [InlineData("setup.py")]
    [InlineData("pkg/main.py")]
    [InlineData("a.model")]
    [InlineData("adapter_config.json")]
    [InlineData("empty/")]
    public void Force_does_not_delete_what_belongs_to_no_model(string name)
    {
        TinyModel.Base(Temp["old"]);
        Put(name);
        Assert.Equal([name], Errors.Expect(MergeError.InvalidDestination, () => Check(Temp["old"], force: true), name).Details);
    }

    [Theory]
    [InlineData(false, "config.json", "tokenizer.json")]
    [InlineData(false, "model.safetensors")]
    [InlineData(false, "adapter_config.json", "adapter_model.safetensors")]
    [InlineData(true, "config.json", "model.safetensors")]
    [InlineData(true, "adapter_config.json")]
    public void Force_replaces_nothing_but_a_model_or_an_adapter(bool isAdapter, params string[] names)
    {
        Array.ForEach(names, Put);
        Errors.Expect(MergeError.InvalidDestination, () => Destination.Check(Temp["old"], [], force: true, isAdapter),
            isAdapter ? "but no adapter" : "but no model");
    }

    private void Put(string name)
    {
        Directory.CreateDirectory(Path.GetDirectoryName(Temp["old/" + name])!);
        if (!name.EndsWith('/'))
        {
            File.WriteAllText(Temp["old/" + name], "");
        }
    }

    [Fact]
    public void A_file_is_no_destination()
    {
        File.WriteAllText(Temp["file"], "");
        Refused(Temp["file"], force: true, "is a file");
    }

    private Destination Check(string path, bool force) =>
        Destination.Check(path, [("base", Temp["base"]), ("adapter", Temp["adapter"])], force);

    private MergeException Refused(string path, bool force, string said, MergeError id = MergeError.InvalidDestination)
    {
        var error = Errors.Expect(id, () => Check(path, force), $"'{path}'", said);
        Assert.False(string.IsNullOrEmpty(error.Advice));
        return error;
    }
}
