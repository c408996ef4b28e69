#!/usr/bin/env bash
# Trains on any machine that ssh reaches, in a tmux there that outlives the connection:
#   bash docs/cloud/ssh.sh HOST start FOLDER RECIPE.yaml [section.key=value ...]    FOLDER: the images here; the same again goes on
#   bash docs/cloud/ssh.sh HOST attach                                              shows the training; Ctrl-b d leaves it running
#   bash docs/cloud/ssh.sh HOST stop                                                saves; the same start goes on
#   bash docs/cloud/ssh.sh HOST fetch                                               its runs come to runs/ here
# GPUS=2 before the command: torchrun on two GPUs.
# Needs rsync on both sides, there also tmux, Python 3.11 or 3.12 with venv, make, and NVIDIA's driver. All lies in HOST:hw1/.
set -euo pipefail
cd "$(dirname "$0")/../.."
usage() { sed -n '2,/^set/{/^# /s///p}' docs/cloud/ssh.sh >&2; }
host=${1:-} action=${2:-}
if [ -z "$action" ] || { [ "$action" = start ] && [ $# -lt 4 ]; }; then
    usage
    exit 2
fi

case $action in
start)
    data=$3 recipe=$4
    shift 4
    if ssh "$host" tmux has-session -t hw1 2>/dev/null; then
        echo "hw1 runs there already: attach, or stop" >&2
        exit 1
    fi
    ssh "$host" mkdir -p hw1/data
    # What is there already is kept: runs, the environment, pictures.
    rsync -az --delete --exclude={.git,.venv,/runs,/data,/train.log,/wheelhouse,__pycache__} ./ "$host:hw1/"
    rsync -az "$data/" "$host:hw1/data/own/"
    printf -v command '%q ' env "GPUS=${GPUS:-1}" bash docs/cloud/keep_on.sh bash docs/cloud/train.sh "$recipe" data.root=data/own "$@"
    commit=$(git describe --always --abbrev=40 --exclude='*' --dirty 2>/dev/null || true) # .git stays here, and each run records it
    printf -v command 'tmux new-session -d -s hw1 %q \\; pipe-pane -t hw1 "cat >> hw1/train.log"' "cd hw1 && export HW1_COMMIT=$commit && make install && $command"
    # shellcheck disable=SC2029 # it is meant to be put together here
    ssh "$host" "$command"
    echo "started; bash docs/cloud/ssh.sh $host attach shows it (Ctrl-b d leaves it running)"
    ;;
attach) exec ssh -t "$host" 'tmux attach -t hw1 || tail -n 20 hw1/train.log' ;; # the log: when it has ended
stop) ssh "$host" tmux send-keys -t hw1 C-c ;; # saves, and goes on at the next start
fetch) rsync -az "$host:hw1/runs/" runs/ ;;
*)
    echo "no such action: $action" >&2
    usage
    exit 2
    ;;
esac
