#!/usr/bin/env bash
# Test on several GPUs: tools/dist_test.sh CONFIG CHECKPOINT GPUS [OPTIONS of test.py]
# Environment: NNODES, NODE_RANK, PORT, MASTER_ADDR for more than one machine.
set -euo pipefail
[ $# -ge 3 ] || { echo "usage: $0 CONFIG CHECKPOINT GPUS [OPTIONS]" >&2; exit 2; }
config=$1 checkpoint=$2 gpus=$3
shift 3
exec "$(command -v python || command -v python3)" -m torch.distributed.run \
    --nnodes="${NNODES:-1}" --node_rank="${NODE_RANK:-0}" --nproc_per_node="$gpus" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" --master_port="${PORT:-29500}" \
    "$(dirname "$0")/test.py" "$config" "$checkpoint" --launcher pytorch "$@"
