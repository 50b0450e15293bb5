using System.Collections;
using UnslothMerge.PowerShell.Commands;

namespace UnslothMerge.PowerShell.Common;

/// <summary>Runs Save-MergedModel on tensors in the pipeline of another command: its objects, messages, questions and errors are that
/// command's.</summary>
internal static class SavePipeline
{
    private static readonly string[] Passed =
        ["WhatIf", "Confirm", "Verbose", "Debug", "WarningAction", "InformationAction",
        "ErrorAction"];

    /// <summary>The parameters of Save-MergedModel that a user can give by name, with their aliases.</summary>
    public static IEnumerable<ParameterMetadata> Parameters(PSCmdlet command) => Save(command).Parameters.Values
        .Where(p => !Cmdlet.CommonParameters.Contains(p.Name) && !Cmdlet.OptionalCommonParameters.Contains(p.Name)
            && p.Name is not (nameof(SaveMergedModelCommand.InputObject) or nameof(SaveMergedModelCommand.Destination)));

    /// <summary>Saves tensors.</summary>
    public static void Run(PSCmdlet command, IDictionary parameters, IEnumerable<MergeTensor> tensors)
    {
        var all = new Hashtable(parameters);
        foreach (var name in Passed.Where(command.MyInvocation.BoundParameters.ContainsKey))
        {
            all[name] = command.MyInvocation.BoundParameters[name];
        }

        using var save = ScriptBlock.Create("param($command, $parameters) & $command @parameters")
            .GetSteppablePipeline(CommandOrigin.Internal, [Save(command), all]);
        try
        {
            save.Begin(true, (EngineIntrinsics)command.GetVariableValue("ExecutionContext"));
            foreach (var tensor in tensors)
            {
                save.Process(tensor);
            }

            save.End();
        }
        catch (RuntimeException e) when (e.ErrorRecord.Exception is MergeException error)
        {
            // The command that was typed is the one that fails.
            throw error;
        }
    }

    private static CmdletInfo Save(PSCmdlet command) =>
        command.SessionState.InvokeCommand.GetCmdletByTypeName(typeof(SaveMergedModelCommand).FullName);
}
