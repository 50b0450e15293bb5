namespace UnslothMerge.Tests.Planning;

public sealed class PartTests
{
    [Theory]
    [InlineData("1/1", 1, 1)]
    [InlineData("3/16", 3, 16)]
    [InlineData(" 16 / 16", 16, 16)]
    public void A_part_is_written_as_a_fraction(string text, int number, int count) =>
        Assert.Equal(new Part(number, count), Part.Parse(text, _ => null));

    [Theory]
    [InlineData("0/16")]
    [InlineData("17/16")]
    [InlineData("3")]
    [InlineData("3/")]
    [InlineData("-1/16")]
    [InlineData("1/2/3")]
    [InlineData("env/0")]
    [InlineData("env/x")]
    [InlineData("")]
    public void Nothing_else_is_a_part(string text) =>
        Errors.Expect(MergeError.InvalidOption, () => Part.Parse(text, _ => null), "is no part", "3/16");

    [Theory]
    [InlineData("env", "SLURM_ARRAY_TASK_ID=5 SLURM_ARRAY_TASK_MIN=0 SLURM_ARRAY_TASK_MAX=15 SLURM_ARRAY_TASK_COUNT=16", 6, 16)]
    [InlineData("env", "SLURM_ARRAY_TASK_ID=13 SLURM_ARRAY_TASK_MIN=10 SLURM_ARRAY_TASK_MAX=13", 4, 4)]
    [InlineData("env", "SLURM_ARRAY_TASK_ID=9 SLURM_ARRAY_TASK_MIN=1 SLURM_ARRAY_TASK_MAX=13 SLURM_ARRAY_TASK_STEP=4", 3, 4)]
    [InlineData("ENV/16", "SLURM_ARRAY_TASK_ID=16 SLURM_ARRAY_TASK_MIN=1 SLURM_ARRAY_TASK_MAX=16", 16, 16)]
    [InlineData("env", "JOB_COMPLETION_INDEX=0 JOB_COMPLETIONS=8", 1, 8)]
    [InlineData("env/8", "JOB_COMPLETION_INDEX=7", 8, 8)]
    [InlineData("env", "AWS_BATCH_JOB_ARRAY_INDEX=2 AWS_BATCH_JOB_ARRAY_SIZE=4", 3, 4)]
    [InlineData("env/4", "PBS_ARRAY_INDEX=3", 4, 4)]
    public void An_engine_says_which_part_it_is(string text, string variables, int number, int count) =>
        Assert.Equal(new Part(number, count), Part.Parse(text, Environment(variables)));

    [Theory]
    [InlineData("env", "", "no run of an array", "SLURM_ARRAY_TASK_ID")]
    [InlineData("env/16", "", "no run of an array", "3/16")]
    [InlineData("env", "PBS_ARRAY_INDEX=3", "does not say how many", "env/16")]
    [InlineData("env", "JOB_COMPLETION_INDEX=3", "does not say how many", "JOB_COMPLETIONS")]
    [InlineData("env/4", "PBS_ARRAY_INDEX=4", "none of 4 runs from 0", "begin at 0")]
    [InlineData("env/8", "JOB_COMPLETION_INDEX=0 JOB_COMPLETIONS=4", "4 runs, but the part says 8")]
    [InlineData("env", "SLURM_ARRAY_TASK_ID=7 SLURM_ARRAY_TASK_MIN=3 SLURM_ARRAY_TASK_MAX=7 SLURM_ARRAY_TASK_COUNT=2", "has gaps")]
    [InlineData("env", "JOB_COMPLETION_INDEX=0 JOB_COMPLETIONS=4 PBS_ARRAY_INDEX=1", "Both Kubernetes and PBS")]
    [InlineData("env", "JOB_COMPLETION_INDEX=first JOB_COMPLETIONS=4", "is no number")]
    public void What_an_engine_does_not_say_is_not_guessed(string text, string variables, params string[] said) =>
        Errors.Expect(MergeError.InvalidOption, () => Part.Parse(text, Environment(variables)), said);

    private static Func<string, string?> Environment(string variables) => variables
        .Split(' ', StringSplitOptions.RemoveEmptyEntries).Select(v => v.Split('=')).ToDictionary(v => v[0], v => v[1]).GetValueOrDefault;
}
