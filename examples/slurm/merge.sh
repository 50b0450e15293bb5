#!/bin/bash
#SBATCH --job-name=merge
#SBATCH --array=0-7
#SBATCH --ntasks=1
#SBATCH --requeue
#SBATCH --open-mode=append

# One part of the model for each run of the array: BASE, ADAPTER and OUT are in the environment; EXAMPLES is the folder of part.ps1.
pwsh -NoProfile -File "$EXAMPLES/part.ps1" -Base "$BASE" -Adapter "$ADAPTER" -Out "$OUT" -MaxShardSize "${MAX_SHARD_SIZE:-5GB}"
code=$?

# What may succeed later (75), or was killed (137, 143), is queued again, and goes on with what is finished.
if [[ $code =~ ^(75|137|143)$ && ${SLURM_RESTART_COUNT:-0} -lt 5 ]]; then
    scontrol requeue "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}"
    sleep 60
fi
exit $code
