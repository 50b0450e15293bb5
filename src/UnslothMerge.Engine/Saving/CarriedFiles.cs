using UnslothMerge.Models;

namespace UnslothMerge.Saving;

/// <summary>The files that a saved model takes over as they are: tokenizer, templates, processor, generation config, remote code, licence.</summary>
public static class CarriedFiles
{
    /// <summary>The tokenizer of an adapter that has one of its own, else the base's; a template or config that only the adapter has goes on top.</summary>
    /// <param name="baseDirectory">The base.</param>
    /// <param name="adapterDirectories">The adapters, in order; the first with a tokenizer wins.</param>
    /// <returns>Relative path → file.</returns>
    public static IReadOnlyDictionary<string, string> Tokenizer(string baseDirectory, IReadOnlyList<string> adapterDirectories)
    {
        var files = new SortedDictionary<string, string>(StringComparer.Ordinal);
        var owner = adapterDirectories.FirstOrDefault(ModelFiles.HasTokenizer);
        foreach (var directory in owner is null ? adapterDirectories.Reverse().Prepend(baseDirectory) : [owner])
        {
            foreach (var file in ModelFiles.Tokenizer(directory))
            {
                files[file] = Path.Combine(directory, file);
            }
        }

        return files;
    }

    /// <summary>All files that a merged model takes over.</summary>
    /// <returns>Relative path → file.</returns>
    public static IReadOnlyDictionary<string, string> ForModel(string baseDirectory, IReadOnlyList<string> adapterDirectories)
    {
        var files = new SortedDictionary<string, string>(StringComparer.Ordinal);
        foreach (var file in ModelFiles.Carried(baseDirectory))
        {
            files[file] = Path.Combine(baseDirectory, file);
        }

        foreach (var (name, path) in Tokenizer(baseDirectory, adapterDirectories))
        {
            files[name] = path;
        }

        return files;
    }

    /// <summary>Makes sure that files can be copied, before the work that would be lost if they could not.</summary>
    /// <exception cref="MergeException">One of them cannot be opened; a link may lead nowhere.</exception>
    public static void RequireReadable(IReadOnlyDictionary<string, string> files)
    {
        foreach (var path in files.Values)
        {
            try
            {
                File.OpenHandle(path, share: FileShare.ReadWrite).Dispose();
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                throw new MergeException(MergeError.InvalidModel, $"'{path}' cannot be read, and would be missing in the saved model: {e.Message}", path, "Download it again, or remove it if it is a link that leads nowhere.", e);
            }
        }
    }

    /// <summary>Copies files into a directory.</summary>
    public static void Copy(IReadOnlyDictionary<string, string> files, string directory)
    {
        foreach (var (name, path) in files)
        {
            var target = Path.Combine(directory, name);
            Directory.CreateDirectory(Path.GetDirectoryName(target)!);
            File.Copy(path, target);

            // A read-only file of the base must not make the copy one that -Force could not replace.
            File.SetAttributes(target, File.GetAttributes(target) & ~FileAttributes.ReadOnly);
        }
    }
}
