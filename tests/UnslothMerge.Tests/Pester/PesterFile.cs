using System.Management.Automation;
using System.Management.Automation.Language;
using System.Management.Automation.Runspaces;
using Pipeline = System.Management.Automation.PowerShell;

namespace UnslothMerge.Tests.Pester;

/// <summary>
/// One test file in a runspace of its own: discovered when made, run once on demand.
/// As in Pester the file is run through to discover its tests; the bodies of It and the setups run later.
/// </summary>
internal sealed class PesterFile : IDisposable
{
    private readonly Runspace _runspace;
    private readonly Session _session;
    private readonly Block _root = new(null, "", null);
    private readonly Lazy<bool> _run;

    private PesterFile(string path, Runspace runspace)
    {
        Path = path;
        _runspace = runspace;
        _session = Session.Attach(runspace);
        _run = new Lazy<bool>(Run);
    }

    public string Path { get; }

    /// <summary>The tests in the order in which they run.</summary>
    public IReadOnlyList<It> Its { get; private set; } = [];

    /// <summary>Discovers the tests of a file.</summary>
    /// <exception cref="PesterException">There are none, or something in the file is wrong or not supported.</exception>
    public static PesterFile Open(string path, Func<Runspace> openRunspace)
    {
        Runspace? runspace = null;
        try
        {
            runspace = openRunspace();
            var file = new PesterFile(path, runspace);
            file.Its = file.Discover();
            return file;
        }
        catch (Exception error)
        {
            runspace?.Dispose();
            throw new PesterException($"{path} could not be discovered. {Failure.Text(error)}", error);
        }
    }

    /// <summary>How a test ended; the first call runs the file.</summary>
    public Outcome Outcome(string key)
    {
        _ = _run.Value;
        var it = Its.SingleOrDefault(each => each.Key == key)
            ?? throw new InvalidOperationException($"'{Path}' has no test '{key}'.");
        return it.Outcome ?? new Outcome(Result.Failed, "The file ended before this test.");
    }

    public void Dispose() => _runspace.Dispose();

    private static ScriptBlock Parse(string path)
    {
        var ast = Parser.ParseFile(path, out _, out var errors);
        if (errors.Length > 0)
        {
            throw new ParseException(errors);
        }

        var file = ast.GetScriptBlock();
        Session.RefuseParameters(file, "A test file");
        return file;
    }

    private List<It> Discover()
    {
        var file = Parse(Path);
        _session.Discovering = _root;
        using (var pipeline = Pipeline.Create(_runspace))
        {
            _session.Scope.Start(pipeline, here => _session.Scope.NewScript(here, inside => Scope.Dot(inside, file)));
        }

        _session.Discovering = null;
        var its = _root.Its.ToList();
        if (its.Count == 0)
        {
            throw new InvalidOperationException("The file has no test.");
        }

        foreach (var same in its.GroupBy(it => it.FullName, StringComparer.Ordinal))
        {
            foreach (var (index, it) in same.Index())
            {
                it.Key = index == 0 ? it.FullName : $"{it.FullName} ({index + 1})";
            }
        }

        return its;
    }

    private bool Run()
    {
        using var pipeline = Pipeline.Create(_runspace);
        using var drive = new TestDrive();
        var runner = new BlockRunner(_session, drive);
        _session.Scope.Start(pipeline, here =>
        {
            here.SessionState.PSVariable.Set("global:TestDrive", drive.Path);
            _session.Scope.NewScript(here, inside => runner.Run(inside, _root));
        });
        _runspace.Dispose();
        return true;
    }
}
