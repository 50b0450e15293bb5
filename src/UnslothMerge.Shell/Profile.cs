namespace UnslothMerge.Shell;

/// <summary>The user's script that runs at the start, beside those of pwsh.</summary>
internal static class Profile
{
    /// <summary>Where it is, or would be.</summary>
    public static string FilePath { get; } = Path.Combine(Folder(), "UnslothMerge_profile.ps1");

    private static string Folder()
    {
        if (OperatingSystem.IsWindows())
        {
            return Path.Combine(Environment.GetFolderPath(Environment.SpecialFolder.MyDocuments), "PowerShell");
        }

        // ~/.config, or what XDG_CONFIG_HOME says instead.
        return Path.Combine(Environment.GetFolderPath(Environment.SpecialFolder.ApplicationData, Environment.SpecialFolderOption.DoNotVerify), "powershell");
    }
}
