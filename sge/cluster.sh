#!/bin/bash
# Trains on a cluster: starts its nodes, waits until they are there, runs train-depth, and ends what it started.
#
#   make demo                                               the smallest run there is
#   DATASET=nyu RECIPE=full WORKERS=4 sge/cluster.sh        what is not set has the value below
#   sge/cluster.sh --set learning_rate=0.01                 arguments go on to train-depth
#
# The nodes are processes of this machine. SIGTERM or Ctrl-C saves, ends everything and exits as train-depth does:
# 0 done, 99 stopped early (the same command goes on from there), 1 failed.
set -euo pipefail
umask 077

DATA_DIR=${DATA_DIR:-./data}                    # where the data sets are
DATASET=${DATASET:-rooms}                       # one of them, with its records made
RECIPE=${RECIPE:-small}                         # how to train: a file of lib/recipes, or its path
RUN_DIR=${RUN_DIR:-./runs}                      # where the runs are
RUNID=${RUNID:-$DATASET-$(basename "$RECIPE" .toml)} # this run; one that is there goes on
PS_NODES=${PS_NODES:-1}
WORKERS=${WORKERS:-2}
settings=()                                     # the recipe's own, unless they are set here
[[ -z ${STEPS:-} ]] || settings+=(--steps "$STEPS")
[[ -z ${BATCHSIZE:-} ]] || settings+=(--set "batch_size=$BATCHSIZE")
[[ -z ${CKPT_FREQ:-} ]] || settings+=(--set "checkpoint_seconds=$CKPT_FREQ")
[[ -z ${SUM_FREQ:-} ]] || settings+=(--set "summary_seconds=$SUM_FREQ")
[[ -z ${TIMEOUT:-} ]] || settings+=(--timeout "$TIMEOUT")

restarts_allowed=5                              # of one worker in one attempt
bin=$(dirname "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")")/bin
run=$RUN_DIR/$RUNID

say() { echo "cluster.sh: $*" >&2; }
fail() { say "$@"; exit 1; }

# ---- the attempt: a folder nobody had before, with a plan

shopt -s nullglob
records=("$DATA_DIR/$DATASET/records/"train-*.tfrecord)
[[ ${#records[@]} -gt 0 ]] ||
    fail "no train-*.tfrecord in $DATA_DIR/$DATASET/records: run fetch-dataset, make-patches and to-tfrecord first"

mkdir -p "$run/nodes" "$run/logs"
attempt=$(find "$run/nodes" -mindepth 1 -maxdepth 1 -name '[0-9]*' -printf '%f\n' | sort -n | tail -n 1)
attempt=$((${attempt:-0} + 1))
until mkdir "$run/nodes/$attempt" 2>/dev/null; do # mkdir succeeds for one of those who try
    [[ -d $run/nodes/$attempt ]] || fail "cannot write in $run/nodes"
    attempt=$((attempt + 1))
done
nodes=$run/nodes/$attempt
"$bin/split-resources" --local --oversubscribe --ps "$PS_NODES" --workers "$WORKERS" > "$nodes/plan.tsv"
worker_threads=$(($(nproc) / WORKERS))
[[ $worker_threads -gt 0 ]] || worker_threads=1

# ---- the nodes: each a process, known by its id and by nothing else

declare -A place port restarts pid              # by node, as in "worker-0"
trainer=""

start() { # NODE
    local role=${1%-*} index=${1##*-} threads=1 host gpus
    [[ $role == ps ]] || threads=$worker_threads
    read -r host gpus <<< "${place[$1]}"
    echo "---- attempt $attempt, $(date '+%F %T')" >> "$run/logs/$1.log"
    CUDA_VISIBLE_DEVICES=${gpus#-} "$bin/$role-node" --run "$run" --attempt "$attempt" --index "$index" \
        --host "$host" ${port[$1]:+--port "${port[$1]}"} --threads "$threads" --parent $$ 2>> "$run/logs/$1.log" &
    pid[$1]=$!
}

pause() { sleep 0.5 || true; } 2>/dev/null # silent: here bash would print the command line of a child that was killed

alive() { [[ -n $1 ]] && kill -0 "$1" 2>/dev/null; } # PID

living_nodes() { # prints their ids
    local id
    for id in "${pid[@]}"; do ! alive "$id" || echo "$id"; done
}

end_everything() { # is what happens at every exit
    local status=$? signal id patience
    trap '' TERM INT
    set +e # whatever fails here, the rest is still to be ended
    : > "$nodes/stop"
    for signal in none TERM KILL; do # 5 seconds each
        for id in $(living_nodes); do
            [[ $signal == none ]] || kill -s "$signal" "$id"
        done
        for ((patience = 50; patience > 0; patience--)); do
            [[ -n $(living_nodes) ]] || break 2
            sleep 0.1
        done
    done
    exit "$status"
}

asked_to_stop=""
on_signal() { # STATUS
    asked_to_stop=$1
    [[ -z $trainer ]] || kill -TERM "$trainer" 2>/dev/null || true
}

trap end_everything EXIT
trap 'on_signal 143' TERM
trap 'on_signal 130' INT

while IFS=$'\t' read -r role index host _slot gpus; do
    case $role in
        chief) chief_gpus=$gpus ;; # this script starts it, when all others are there
        *) place[$role-$index]="$host $gpus" restarts[$role-$index]=0 ;;
    esac
done < "$nodes/plan.tsv"
for node in "${!place[@]}"; do start "$node"; done

say "run $run, attempt $attempt: $PS_NODES ps, $WORKERS workers"
say "to watch it: tail -f $run/logs/*.log; tensorboard --logdir $run/events"
say "to stop it, with everything saved: kill $$, or Ctrl-C here"

# ---- wait until all nodes are there

"$bin/gather-spec" --run "$run" --attempt "$attempt" "$nodes/plan.tsv" > "$nodes/cluster.json" &
gatherer=$!
while alive "$gatherer"; do
    ended=""
    for node in "${!pid[@]}"; do
        alive "${pid[$node]}" || ended=$node
    done
    if [[ -n $ended$asked_to_stop ]]; then
        kill -TERM "$gatherer" 2>/dev/null || true
        [[ -z $asked_to_stop ]] || exit "$asked_to_stop"
        fail "$ended ended before the training began: see $run/logs/$ended.log"
    fi
    pause
done
wait "$gatherer" || exit 1
for node in "${!pid[@]}"; do port[$node]=$(sed -n 's/^ "port": \([0-9]*\),$/\1/p' "$nodes/$node.json"); done

# ---- train; a worker that ends is started again on the port it had, for as long as one is missing TensorFlow takes no
# other back; with a ps its parameters are gone: the next attempt goes on from the last checkpoint

CUDA_VISIBLE_DEVICES=${chief_gpus#-} "$bin/train-depth" --recipe "$RECIPE" --run "$run" \
    --cluster "$nodes/cluster.json" "${settings[@]}" "$@" "${records[@]}" &
trainer=$!
[[ -z $asked_to_stop ]] || on_signal "$asked_to_stop" # it came a moment ago
gave_up=""
while alive "$trainer"; do
    for node in "${!pid[@]}"; do
        if alive "${pid[$node]}" || [[ -n $gave_up ]] || ! alive "$trainer"; then continue; fi
        died=0
        wait "${pid[$node]}" || died=$?
        if [[ $node == worker-* && ${restarts[$node]} -lt $restarts_allowed ]]; then
            restarts[$node]=$((restarts[$node] + 1))
            say "$node ended (status $died), restart ${restarts[$node]} of $restarts_allowed: see $run/logs/$node.log"
            start "$node"
        else
            say "$node ended (status $died), giving up: see $run/logs/$node.log"
            gave_up=$SECONDS
            on_signal 1
        fi
    done
    if [[ -n $gave_up && $((SECONDS - gave_up)) -gt 60 ]]; then kill -KILL "$trainer" || true; fi # it waits for nodes
    pause
done
[[ -z $gave_up ]] || exit 1
wait "$trainer" # and exit as it did
