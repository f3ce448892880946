#!/bin/bash
# Runs every step on a folder of real photos with train/ and test/, and prints the cost of each step and the scores.
# trial.sh FOLDER [options of train-depth]; results are in $DATA_DIR and $RUN_DIR.
set -euo pipefail
folder=$1
shift
bin=$(dirname "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")")/bin
export DATA_DIR=${DATA_DIR:-./data}
run=${RUN_DIR:-./runs}/trial-$(basename "$folder")-$(date +%Y%m%d-%H%M%S)
records=$DATA_DIR/$(basename "$folder")/records

step() { # NAME COMMAND...: prints its seconds and the peak memory of its largest process
    python3 - "$@" <<'PYTHON'
import resource, subprocess, sys, time
begun = time.monotonic()
status = subprocess.run(sys.argv[2:], stdin=None).returncode
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
print(f"{sys.argv[1]}: {time.monotonic() - begun:.1f} s, {peak:.0f} MB, status {status}", file=sys.stderr)
sys.exit(status)
PYTHON
}

step make-patches "$bin/make-patches" --width 320 "$folder" > /dev/null
step to-tfrecord "$bin/to-tfrecord" "$DATA_DIR/$(basename "$folder")/patches" > /dev/null
step train-depth "$bin/train-depth" --recipe small --run "$run" "$@" "$records"/train-*.tfrecord
step score-depth "$bin/score-depth" --run "$run" --pictures "$run/pictures" "$records"/test-*.tfrecord
