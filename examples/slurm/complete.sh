#!/bin/bash
#SBATCH --job-name=merge-complete
#SBATCH --ntasks=1
#SBATCH --open-mode=append

exec pwsh -NoProfile -File "$EXAMPLES/complete.ps1" -Out "$OUT"
