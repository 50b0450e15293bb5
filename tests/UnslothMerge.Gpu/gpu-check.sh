#!/bin/sh
# Checks merges on this machine's GPU. Needs a driver and a PyTorch, or UNSLOTHMERGE_LIBTORCH; --help has the options.
here=$(cd "$(dirname "$0")" && pwd)
nvidia-smi --query-gpu=name,driver_version,memory.total,memory.free --format=csv,noheader 2>&1
exec "$here/bin/unslothmerge-gpu" "$@"
