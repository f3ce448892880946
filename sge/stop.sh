#!/bin/bash
# Ends one run, with everything saved, and nothing else: sge/stop.sh runs/rooms-small
# It works on any machine that shares the disk; a job that still waits in the grid is deleted.
set -euo pipefail
patience=90 # seconds for the run to save and end
left=""
[[ $# -eq 1 ]] || { echo "stop.sh: name a run's folder" >&2; exit 2; }
run=$1
say() { echo "stop.sh: $*" >&2; }
[[ -d $run/nodes ]] || { say "$run: no run of a cluster is there"; exit 1; }
job=$(cat "$run/job" 2> /dev/null || true)
attempt=$(find "$run/nodes" -mindepth 1 -maxdepth 1 -name '[0-9]*' -printf '%f\n' | sort -n | tail -n 1)
here=$run/nodes/${attempt:-none}
ended() { grep -q '^ended' "$here/state" 2> /dev/null; }
in_grid() { [[ -n $job ]] && command -v qstat > /dev/null && qstat -j "$job" > /dev/null 2>&1; }

if [[ -n $attempt ]] && ! ended; then
    touch "$here/stop"
    for ((; patience > 0 && $(ended; echo $?); patience--)); do sleep 1; done
    ended || { say "$run: attempt $attempt does not end"; left=yes; }
fi
for ((look = 0; look < 10; look++)); do # a job that has ended leaves the grid within seconds
    in_grid || break
    [[ -z $attempt || $(cat "$here/job" 2> /dev/null) != "$job" || $look -gt 5 ]] && qdel "$job" >&2 && left=""
    sleep 1
done
if in_grid; then
    say "$run: job $job is still there, see qstat"
    exit 1
fi
[[ -z $left ]] || exit 1
say "$run: $(cat "$here/state" 2> /dev/null || echo "ended before its first attempt"); the same command goes on"
