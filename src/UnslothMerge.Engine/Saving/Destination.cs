using UnslothMerge.IO;
using UnslothMerge.Models;

namespace UnslothMerge.Saving;

/// <summary>The directory that a model is saved to, checked before anything is written.</summary>
internal sealed class Destination
{
    private readonly bool _force;

    private Destination(string given, string path, bool force)
    {
        Given = given;
        Path = path;
        _force = force;
    }

    /// <summary>The path as the user gave it.</summary>
    public string Given { get; }

    /// <summary>The real path.</summary>
    public string Path { get; }

    /// <summary>True if a model is there that will be replaced.</summary>
    public bool Exists => Directory.Exists(Path);

    /// <summary>Checks a destination against the directories that the merge reads, which are never written to. With
    /// <paramref name="force"/> an existing model may be replaced.</summary>
    public static Destination Check(string path, IEnumerable<(string Role, string Path)> inputs, bool force)
    {
        var destination = new Destination(path, RealPath.Of(path), force);
        foreach (var (role, input) in inputs)
        {
            var real = RealPath.Of(input);
            var relation = destination.Path == real ? $"is the {role} itself"
                : RealPath.IsWithin(destination.Path, real) ? $"lies inside the {role} '{input}'"
                : RealPath.IsWithin(real, destination.Path) ? $"contains the {role} '{input}'"
                : null;
            if (relation is not null)
            {
                throw new MergeException(MergeError.InvalidDestination, $"The destination '{path}' {relation}, which is never written to.",
                    path, "Choose another -Destination.");
            }
        }

        if (File.Exists(destination.Path))
        {
            throw new MergeException(MergeError.InvalidDestination, $"The destination '{path}' is a file.", path,
                "Choose another -Destination.");
        }

        destination.RequireReplaceable();
        return destination;
    }

    /// <summary>The error of a save that the system did not let finish.</summary>
    internal MergeException NotWritten(Exception cause) =>
        new(MergeError.InvalidDestination, $"'{Given}' could not be written: {cause.Message}", Given,
            "Check the free space and the health of the disk.", cause);

    /// <summary>Checks that what is at the destination may be replaced. A save takes long, so it asks again before it does. The staging
    /// directory of the save itself may lie inside.</summary>
    public void RequireReplaceable(string? staging = null)
    {
        if (!Exists || !Directory.EnumerateFileSystemEntries(Path).Any(e => e != staging))
        {
            return;
        }

        if (!_force)
        {
            throw new MergeException(MergeError.InvalidDestination, $"The destination '{Given}' exists already.", Given,
                "Use -Force to replace the model there, or choose another -Destination.");
        }

        var own = staging is null ? null : System.IO.Path.GetFileName(staging) + '/';
        var unknown = ModelFiles.Unknown(Path).Where(f => own is null || !f.StartsWith(own, StringComparison.Ordinal)).ToList();
        if (unknown.Count > 0)
        {
            throw new MergeException(
                MergeError.InvalidDestination,
                $"The destination '{Given}' holds files that do not belong to a model: " +
                    $"{string.Join(", ", unknown.Take(5))}{(unknown.Count > 5 ? $" and {unknown.Count - 5} more" : "")}. -Force replaces " +
                    "a model directory; it does not delete anything else.",
                Given,
                "Move those files away, or choose another -Destination.") { Details = unknown };
        }
    }
}
