#!/usr/bin/env bash
# Runs a training, and again after a failure that may pass (a GPU that fell over, a full disk):  bash docs/cloud/keep_on.sh COMMAND...
# Ends with its exit code when it is done (0), a mistake that would come again (2), or stopped (130, 143). HW1_PAUSE: seconds between.
set -u
while true; do
    "$@"
    code=$?
    case $code in 0 | 2 | 130 | 143) exit $code ;; esac
    echo "ended with $code; goes on in ${HW1_PAUSE:-30} s" >&2
    sleep "${HW1_PAUSE:-30}"
done
