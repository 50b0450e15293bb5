using System.Collections.ObjectModel;
using System.Globalization;
using System.Management.Automation;
using System.Management.Automation.Host;
using System.Security;
using UnslothMerge.Shell.Terminal;

namespace UnslothMerge.Shell.Host;

/// <summary>Questions. Where nobody is there to answer, they are errors that say so instead of waiting for ever.</summary>
internal sealed partial class ShellUserInterface
{
    public override Dictionary<string, PSObject> Prompt(string caption, string message, Collection<FieldDescription> descriptions)
    {
        RequirePerson("ask for " + string.Join(", ", descriptions.Select(field => field.Name)));
        WriteHeading(caption, message);
        return descriptions.ToDictionary(field => field.Name, Ask);
    }

    public override int PromptForChoice(string caption, string message, Collection<ChoiceDescription> choices, int defaultChoice)
    {
        RequirePerson($"ask '{message}'", "Pass -Confirm:$false, or -Force where the command has it.");
        var menu = choices.Select(ChoiceLabel.Parse).ToArray();
        WriteHeading(caption, message);
        while (true)
        {
            Write(ChoiceLabel.Menu(menu, defaultChoice));
            var answer = ReadAnswer().Trim();
            if (answer == "?")
            {
                for (var i = 0; i < menu.Length; i++)
                {
                    WriteLine($"{menu[i].Key} - {choices[i].HelpMessage}");
                }
            }
            else if (answer.Length == 0 && defaultChoice >= 0)
            {
                return defaultChoice;
            }
            else if (Array.FindIndex(menu, label => label.Matches(answer)) is >= 0 and var chosen)
            {
                return chosen;
            }
        }
    }

    public override PSCredential PromptForCredential(string caption, string message, string userName, string targetName) =>
        PromptForCredential(caption, message, userName, targetName, PSCredentialTypes.Default, PSCredentialUIOptions.Default);

    public override PSCredential PromptForCredential(
        string caption,
        string message,
        string userName,
        string targetName,
        PSCredentialTypes allowedCredentialTypes,
        PSCredentialUIOptions options)
    {
        RequirePerson("ask for a credential");
        WriteHeading(caption, message);
        if (string.IsNullOrEmpty(userName))
        {
            Write("User: ");
            userName = ReadAnswer();
        }

        Write($"Password for user {userName}: ");
        return new PSCredential(userName, ReadLineAsSecureString());
    }

    private static PSInvalidOperationException NotInteractive(string action, string? advice = null) =>
        new($"The shell cannot {action}: it is not interactive.{(advice is null ? "" : " " + advice)}");

    private PSObject Ask(FieldDescription field)
    {
        var type = Type.GetType(field.ParameterAssemblyFullName, throwOnError: false) ?? typeof(string);
        if (type == typeof(SecureString))
        {
            Write($"{field.Name}: ");
            return PSObject.AsPSObject(ReadLineAsSecureString());
        }

        if (!type.IsArray)
        {
            Write($"{field.Name}: ");
            return PSObject.AsPSObject(ReadAnswer());
        }

        // An array ends with an empty line.
        var items = new List<string>();
        while (true)
        {
            Write(string.Create(CultureInfo.InvariantCulture, $"{field.Name}[{items.Count}]: "));
            if (ReadAnswer() is not { Length: > 0 } item)
            {
                return PSObject.AsPSObject(items.ToArray());
            }

            items.Add(item);
        }
    }

    private string ReadAnswer()
    {
        Progress.Erase();
        return Console.ReadLine() ?? throw NotInteractive("go on: its input has ended");
    }

    private void WriteHeading(string caption, string message)
    {
        WriteLine("");
        if (!string.IsNullOrEmpty(caption))
        {
            WriteLine($"{Style.Bold}{caption}{Style.Reset}");
        }

        if (!string.IsNullOrEmpty(message))
        {
            WriteLine(message);
        }
    }

    private void RequirePerson(string action, string? advice = null)
    {
        if (!_interactive || Console.IsInputRedirected)
        {
            throw NotInteractive(action, advice);
        }
    }
}
