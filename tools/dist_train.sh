#!/usr/bin/env bash
# Train on several GPUs of one or more machines: tools/dist_train.sh CONFIG GPUS [OPTIONS of train.py]
# Environment: NNODES, NODE_RANK, PORT, MASTER_ADDR for more than one machine.
set -euo pipefail
[ $# -ge 2 ] || { echo "usage: $0 CONFIG GPUS [OPTIONS]" >&2; exit 2; }
config=$1 gpus=$2
shift 2
exec "$(command -v python || command -v python3)" -m torch.distributed.run \
    --nnodes="${NNODES:-1}" --node_rank="${NODE_RANK:-0}" --nproc_per_node="$gpus" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" --master_port="${PORT:-29500}" \
    "$(dirname "$0")/train.py" "$config" --launcher pytorch "$@"
