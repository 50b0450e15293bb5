#!/bin/bash
# Merges a model by the runs of an array: submit.sh BASE ADAPTER OUT [options of sbatch, such as --array=0-15]
set -eu
export BASE ADAPTER OUT EXAMPLES
BASE=$(realpath "$1") ADAPTER=$(realpath "$2") OUT=$(realpath -m "$3")
EXAMPLES=$(realpath "$(dirname "$0")/..")
shift 3
parts=$(sbatch --parsable "$@" "$EXAMPLES/slurm/merge.sh")
sbatch --parsable --dependency="afterok:$parts" --kill-on-invalid-dep=yes "$EXAMPLES/slurm/complete.sh"
