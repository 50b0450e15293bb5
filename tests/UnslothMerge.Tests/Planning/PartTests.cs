namespace UnslothMerge.Tests.Planning;

public sealed class PartTests
{
    [Theory]
    [InlineData("3/16", "", "3/16")]
    [InlineData(" 1 / 1 ", "", "1/1")]

    // Slurm tells first, last and step; an array need not begin at 0.
    [InlineData("env", "SLURM_ARRAY_TASK_ID=0 SLURM_ARRAY_TASK_MIN=0 SLURM_ARRAY_TASK_MAX=15 SLURM_ARRAY_TASK_COUNT=16", "1/16")]
    [InlineData("ENV", "SLURM_ARRAY_TASK_ID=8 SLURM_ARRAY_TASK_MIN=1 SLURM_ARRAY_TASK_MAX=8 SLURM_ARRAY_TASK_STEP=1", "8/8")]
    [InlineData("env", "SLURM_ARRAY_TASK_ID=14 SLURM_ARRAY_TASK_MIN=10 SLURM_ARRAY_TASK_MAX=18 SLURM_ARRAY_TASK_STEP=4", "2/3")]
    [InlineData("env/3", "SLURM_ARRAY_TASK_ID=12 SLURM_ARRAY_TASK_MIN=10 SLURM_ARRAY_TASK_MAX=12", "3/3")]

    // Kubernetes counts from 0, and leaves the number to the manifest.
    [InlineData("env", "JOB_COMPLETION_INDEX=0 JOB_COMPLETIONS=8", "1/8")]
    [InlineData("env", "JOB_COMPLETION_INDEX=7 JOB_COMPLETIONS=8", "8/8")]
    [InlineData("env/8", "JOB_COMPLETION_INDEX=7", "8/8")]

    // AWS Batch counts from 0 and tells the size.
    [InlineData("env", "AWS_BATCH_JOB_ARRAY_INDEX=2 AWS_BATCH_JOB_ARRAY_SIZE=10", "3/10")]

    // PBS tells the index alone.
    [InlineData("env/16", "PBS_ARRAY_INDEX=15", "16/16")]
    [InlineData("env/16", "PBS_ARRAY_INDEX=0 SLURM_ARRAY_TASK_ID=", "1/16")]
    public void A_part_is_read_from_a_text_or_an_engine(string text, string variables, string expected) =>
        Assert.Equal(expected, Part.Parse(text, Variables(variables)).ToString());

    [Theory]
    [InlineData("0/4", "", "'0/4' is no part")]
    [InlineData("5/4", "", "is no part")]
    [InlineData("3", "", "is no part")]
    [InlineData("1/2/3", "", "is no part")]
    [InlineData("env/0", "PBS_ARRAY_INDEX=0", "is no part")]
    [InlineData("-1/4", "", "is no part")]
    [InlineData("env", "", "AWS_BATCH_JOB_ARRAY_INDEX (AWS Batch)", "PBS_ARRAY_INDEX (PBS)")]
    [InlineData("env", "PBS_ARRAY_INDEX=3", "PBS does not say how many", "env/16")]
    [InlineData("env", "JOB_COMPLETION_INDEX=3", "Kubernetes does not say how many", "set JOB_COMPLETIONS")]
    [InlineData("env/4", "PBS_ARRAY_INDEX=4", "PBS_ARRAY_INDEX is 4, which is none of 4 runs from 0")]
    [InlineData("env/4", "JOB_COMPLETION_INDEX=0 JOB_COMPLETIONS=8", "there are 8 runs, but the part says 4")]
    [InlineData("env", "JOB_COMPLETION_INDEX=x JOB_COMPLETIONS=8", "JOB_COMPLETION_INDEX is 'x', which is no number")]
    [InlineData("env", "AWS_BATCH_JOB_ARRAY_INDEX=10 AWS_BATCH_JOB_ARRAY_SIZE=10", "none of 10 runs")]
    [InlineData("env", "JOB_COMPLETION_INDEX=0 SLURM_ARRAY_TASK_ID=0", "Both Slurm and Kubernetes")]
    [InlineData("env", "SLURM_ARRAY_TASK_ID=1 SLURM_ARRAY_TASK_MIN=1 SLURM_ARRAY_TASK_MAX=9 SLURM_ARRAY_TASK_COUNT=3", "gaps: 3 of 9")]
    [InlineData("env", "SLURM_ARRAY_TASK_ID=3 SLURM_ARRAY_TASK_MIN=0 SLURM_ARRAY_TASK_MAX=8 SLURM_ARRAY_TASK_STEP=2", "none of 5 runs")]
    public void What_is_no_part_is_refused(string text, string variables, params string[] said) =>
        Errors.Expect(MergeError.InvalidOption, () => Part.Parse(text, Variables(variables)), said);

    private static Func<string, string?> Variables(string text)
    {
        var all = text.Split(' ', StringSplitOptions.RemoveEmptyEntries).Select(v => v.Split('=')).ToDictionary(v => v[0], v => v[1]);
        return all.GetValueOrDefault;
    }
}
