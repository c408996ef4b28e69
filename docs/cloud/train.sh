#!/usr/bin/env bash
# Trains on GPUS GPUs of this machine (1, unless it is set):  GPUS=2 bash docs/cloud/train.sh RECIPE.yaml [section.key=value ...]
# Ends with the exit codes of one process. torchrun alone ends with 1 whatever happened: a mistake in the recipe (2) is looked for before it
# starts, and a signal that stopped it (130, 143) is remembered here.
set -u
if [ "${GPUS:-1}" -le 1 ]; then
    exec .venv/bin/python train.py "$@"
fi
.venv/bin/python train.py "$@" --print-config >/dev/null || exit
signal=""
trap 'signal=130' INT
trap 'signal=143' TERM
.venv/bin/torchrun --standalone --nproc-per-node "$GPUS" train.py "$@"
code=$?
[ "$code" -eq 0 ] || code=${signal:-$code}
exit "$code"
