#!/bin/sh
# Checks merges on this machine's GPU. Needs a driver and a PyTorch, or UNSLOTHMERGE_LIBTORCH; --help has the options.
here=$(cd "$(dirname "$0")" && pwd)
nvidia-smi --query-gpu=name,driver_version,memory.total,memory.free --format=csv,noheader 2>&1
if [ -z "$UNSLOTHMERGE_LIBTORCH" ]; then
    python3 -c 'import torch; print("PyTorch", torch.__version__, "CUDA", torch.version.cuda)'
    UNSLOTHMERGE_LIBTORCH=$(python3 -c 'import torch; print(torch.__path__[0] + "/lib")')
    export UNSLOTHMERGE_LIBTORCH
fi
exec "$here/bin/unslothmerge-gpu" "$@"
