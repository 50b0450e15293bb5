namespace UnslothMerge.Tests.Hub;

public sealed class HubSettingsTests : FileTests
{
    private const string Secret = "hf_secretSecretSecret";

    [Fact]
    public void The_environment_is_read_as_the_Hubs_tools_read_it()
    {
        var settings = Read(("HF_ENDPOINT", "http://hub.local:8080/"), ("XDG_CACHE_HOME", "/cache"), ("HF_HUB_OFFLINE", "yes"),
            ("HF_HUB_DISABLE_SYMLINKS", "true"), ("HF_HUB_ETAG_TIMEOUT", "3"));
        Assert.Equal(new Uri("http://hub.local:8080"), settings.Endpoint);
        Assert.Equal(Path.Combine("/cache", "huggingface", "hub"), settings.Cache);
        Assert.Equal(Path.Combine("/cache", "huggingface", "token"), settings.TokenPath);
        Assert.True(settings.Offline);
        Assert.False(settings.Symlinks);
        Assert.Equal(3, settings.MetadataTimeout.TotalSeconds);
        Assert.Equal(10, settings.DownloadTimeout.TotalSeconds);

        var home = Environment.GetFolderPath(Environment.SpecialFolder.UserProfile);
        settings = Read(("HF_HOME", "~/hf"), ("HF_HUB_CACHE", "/there"), ("HF_HUB_OFFLINE", "0"), ("TRANSFORMERS_OFFLINE", "1"));
        Assert.Equal((home + "/hf", "/there", false), (settings.Home, settings.Cache, settings.Offline));
        Assert.True(Read(("TRANSFORMERS_OFFLINE", "on")).Offline);
        Assert.Equal("https://huggingface.co/", Read().Endpoint.ToString());
        Errors.Expect(MergeError.InvalidOption, () => Read(("HF_ENDPOINT", "hub")), "HF_ENDPOINT");
    }

    [Fact]
    public void A_token_is_found_in_the_order_of_the_Hubs_tools_and_never_shown()
    {
        var file = Temp["token"];
        File.WriteAllText(file, Secret + "File\n");
        Assert.Null(HubToken.Find(Read(("HF_TOKEN_PATH", Temp["none"]))));
        Assert.Equal(file, HubToken.Find(Read(("HF_TOKEN_PATH", file)))!.Source);
        var token = HubToken.Find(Read(("HF_TOKEN_PATH", file), ("HF_TOKEN", Secret), ("HUGGING_FACE_HUB_TOKEN", "hf_old")))!;
        Assert.Equal(("HF_TOKEN", Secret), (token.Source, token.Header.Parameter));
        Assert.Null(HubToken.Find(Read(("HF_TOKEN", Secret), ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1"))));
        Assert.Equal("no (token) here", token.Hide($"no {Secret} here"));
        Assert.DoesNotContain(Secret, $"{token}", StringComparison.Ordinal);
        var error = Errors.Expect(MergeError.InvalidArgument, () => _ = new HubToken(Secret + "\nX: y", "HF_TOKEN"), "HF_TOKEN");
        Assert.DoesNotContain(Secret, error.ToString(), StringComparison.Ordinal);
    }

    private static HubSettings Read(params (string Name, string Value)[] variables) =>
        HubSettings.Read(name => variables.FirstOrDefault(v => v.Name == name).Value);
}
