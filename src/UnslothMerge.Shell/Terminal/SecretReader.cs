using System.Security;

namespace UnslothMerge.Shell.Terminal;

/// <summary>Reads a line from the keyboard and shows nothing of it but its length.</summary>
internal static class SecretReader
{
    public static SecureString Read()
    {
        var secret = new SecureString();
        while (true)
        {
            var key = Console.ReadKey(intercept: true);
            switch (key.Key)
            {
                case ConsoleKey.Enter:
                    Console.Out.WriteLine();
                    secret.MakeReadOnly();
                    return secret;
                case ConsoleKey.Backspace when secret.Length > 0:
                    secret.RemoveAt(secret.Length - 1);
                    Console.Out.Write("\b \b");
                    break;
                default:
                    if (!char.IsControl(key.KeyChar))
                    {
                        secret.AppendChar(key.KeyChar);
                        Console.Out.Write('*');
                    }

                    break;
            }
        }
    }
}
