#!/bin/bash
# Trains on a cluster: starts its nodes, waits until they are there, runs train-depth, and ends what it started.
#
#   qsub -pe PE 13 sge/cluster.sh                  one job of 13 slots: 1 chief, 8 ps, 4 workers
#   PE=orte WORKERS=4 PS_NODES=8 sge/cluster.sh    the same: outside a job it submits itself
#   WORKERS=4 PS_NODES=8 sge/cluster.sh            no PE: a job of one slot, which submits its nodes as array jobs
#   GRID=no WORKERS=2 sge/cluster.sh               the nodes are processes of this machine; so where there is no grid
#   sge/cluster.sh WORKERS=4 --wait 600 --set learning_rate=0.01
#
# Settings come from the environment or as first arguments (qsub passes on no environment). --wait SECONDS is how long
# to wait for slots and nodes. All other arguments go on to train-depth. Exit status: 0 done, 99 stopped early with
# everything saved (the same command goes on from there; Grid Engine does it by itself), 1 failed, 2 wrong settings,
# 100 gave up after three attempts without a new checkpoint (Grid Engine holds the job in the error state).
#$ -cwd
#$ -S /bin/bash
#$ -j y
#$ -r y
#$ -notify
set -euo pipefail
umask 077

named=(DATA_DIR DATASET RECIPE RUN_DIR RUNID PS_NODES WORKERS SLOTS_PER_NODE WORKER_REQUEST PS_REQUEST NODE_PE
    GPUS_PER_SLOT TIMEOUT WAIT STEPS BATCHSIZE CKPT_FREQ SUM_FREQ GRID_QUEUES) # what a job is told: never -V
while [[ ${1:-} =~ ^([A-Z_]+)=(.*)$ && " ${named[*]} PE REQUEST GRID " == *" ${BASH_REMATCH[1]} "* ]]; do
    printf -v "${BASH_REMATCH[1]}" '%s' "${BASH_REMATCH[2]}"
    shift
done

DATA_DIR=${DATA_DIR:-./data}                    # where the data sets are
DATASET=${DATASET:-rooms}                       # one of them, with its records made
RECIPE=${RECIPE:-small}                         # how to train: a file of lib/recipes, or its path
RUN_DIR=${RUN_DIR:-./runs}                      # where the runs are
RUNID=${RUNID:-$DATASET-$(basename "$RECIPE" .toml)} # this run; one that is there goes on
PS_NODES=${PS_NODES:-}                          # 1, in a parallel environment what its slots give: see below
WORKERS=${WORKERS:-}                            # 2
SLOTS_PER_NODE=${SLOTS_PER_NODE:-1}             # of a job; a node computes on so many cores
PE=${PE:-}                                      # the parallel environment to submit to; none: array jobs
REQUEST=${REQUEST:-}                            # qsub's arguments for the job, such as "-q long.q -l h_vmem=4G" (a slot)
WORKER_REQUEST=${WORKER_REQUEST:-}              # the same for the array jobs: "-l gpu=1"
PS_REQUEST=${PS_REQUEST:-}                      # "-l h_vmem=8G"
NODE_PE=${NODE_PE:-smp}                         # a PE on one host, for array jobs with SLOTS_PER_NODE above 1
GPUS_PER_SLOT=${GPUS_PER_SLOT:-}                # GPUs the job was given with each slot
TIMEOUT=${TIMEOUT:-}                            # seconds until it stops and goes on in a rerun; else the job's own limit
WAIT=${WAIT:-}                                  # seconds to wait for slots and nodes: array jobs 3600, else 120
STEPS=${STEPS:-}                                # the recipe's own, unless they are set here
BATCHSIZE=${BATCHSIZE:-}
CKPT_FREQ=${CKPT_FREQ:-}                        # seconds between checkpoints
SUM_FREQ=${SUM_FREQ:-}                          # and between lines of metrics
GRID=${GRID:-}                                  # no: leave Grid Engine alone
if [[ ${1:-} == --wait ]]; then
    WAIT=${2:-}
    shift 2 || { echo "cluster.sh: --wait takes seconds" >&2; exit 2; }
fi
attempts_allowed=3                              # without a new checkpoint
job=${JOB_ID:-}                                 # outside a job: this process
say() { echo "cluster.sh: $*" >&2; }
fail() { say "$@"; exit 1; }
wrong() { say "$@"; exit 2; }

for name in PS_NODES WORKERS SLOTS_PER_NODE TIMEOUT WAIT GPUS_PER_SLOT; do
    [[ ${!name} =~ ^([1-9][0-9]*)?$ ]] || wrong "$name takes a whole number of at least 1, not '${!name}'"
done
[[ $RUNID =~ ^[A-Za-z0-9][A-Za-z0-9._-]*$ ]] || wrong "RUNID takes letters, digits, dot, - and _, not '$RUNID'"
# In a job this file is a copy in Grid Engine's spool: the project is where the job was submitted from.
house=$(dirname "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")")
[[ -z $job || -x $house/bin/train-depth ]] || house=${DEPTHFIELD:-$PWD}
[[ -x $house/bin/train-depth ]] || fail "$house is not depthfield: submit from its folder, or with -v DEPTHFIELD=folder"
bin=$house/bin
DATA_DIR=$(realpath -ms "$DATA_DIR") RUN_DIR=$(realpath -ms "$RUN_DIR") # nodes work in folders of their own
[[ $RECIPE != */* ]] || RECIPE=$(realpath -ms "$RECIPE")
run=$RUN_DIR/$RUNID
shopt -s nullglob
records=("$DATA_DIR/$DATASET/records/"train-*.tfrecord)
[[ ${#records[@]} -gt 0 ]] ||
    fail "no train-*.tfrecord in $DATA_DIR/$DATASET/records: run fetch-dataset, make-patches and to-tfrecord first"
mkdir -p "$run/nodes" "$run/logs"
# shellcheck source=sge/grid.sh
. "$house/sge/grid.sh"

# ---- which way in

if [[ -n $job && -n ${PE_HOSTFILE:-} ]]; then
    way=pe
elif [[ -n $job ]]; then
    way=array
elif [[ $GRID == no ]] || ! there_is_a_grid; then
    way=local job=$(hostname)-$$-$(date +%s)
else
    submit "$@"
    exit
fi
gave_up=1
[[ $way == local ]] || gave_up=100
origin=$(cat "$run/nodes/origin-$job" 2> /dev/null || echo "$job")

case $way in
    pe) # a third of the nodes besides the chief are workers, unless they are counted
        nodes=$((NSLOTS / SLOTS_PER_NODE - 1))
        [[ $nodes -ge 2 ]] || fail "$NSLOTS slots: 1 chief, 1 ps and 1 worker need $((3 * SLOTS_PER_NODE))"
        if [[ -z $WORKERS ]]; then
            WORKERS=$((PS_NODES ? nodes - PS_NODES : nodes / 3))
            [[ $WORKERS -gt 0 ]] || WORKERS=1
        fi
        PS_NODES=${PS_NODES:-$((nodes - WORKERS))} WAIT=${WAIT:-120} threads=$SLOTS_PER_NODE
        plain_names
        cp "$PE_HOSTFILE" "$run/nodes/hosts-$job" # for the attempts; a host that is lost is left out of the next
        ;;
    array)
        PS_NODES=${PS_NODES:-1} WORKERS=${WORKERS:-2} WAIT=${WAIT:-3600} threads=$SLOTS_PER_NODE
        plain_names
        ;;
    local)
        PS_NODES=${PS_NODES:-1} WORKERS=${WORKERS:-2} WAIT=${WAIT:-120}
        threads=$(($(nproc) > WORKERS ? $(nproc) / WORKERS : 1))
        ;;
esac
me=${HOSTNAME:-$(hostname)}
[[ $way != local ]] || me=127.0.0.1
[[ $way == local ]] || export TF_NUM_INTRAOP_THREADS=$threads OMP_NUM_THREADS=$threads
leave=$(time_to_leave "$way") # in seconds of this script, empty for never

# ---- an attempt: a folder nobody had before, with a plan

last_attempt() { # its number, 0 if there was none
    { echo 0; find "$run/nodes" -mindepth 1 -maxdepth 1 -name '[0-9]*' -printf '%f\n'; } | sort -n | tail -n 1
}

new_attempt() {
    attempt=$(last_attempt)
    attempt=$((attempt + 1))
    until mkdir "$run/nodes/$attempt" 2> /dev/null; do # mkdir succeeds for one of those who try
        [[ -d $run/nodes/$attempt ]] || fail "cannot write in $run/nodes"
        attempt=$((attempt + 1))
    done
    here=$run/nodes/$attempt
    echo "$job" > "$here/job"
    echo "$origin" > "$here/origin"
    newest_checkpoint > "$here/from"
    ! [[ -n ${JOB_ID:-} ]] || echo "$JOB_ID" > "$run/job"
}

newest_checkpoint() {
    local found=("$run"/checkpoints/[0-9]*.npz)
    if [[ ${#found[@]} -eq 0 ]]; then echo none; else basename "${found[-1]}" .npz; fi
}

fruitless() { # how many attempts of this job, or of those it is a copy of, began where we are
    local number count=0 now
    now=$(newest_checkpoint)
    for ((number = $(last_attempt); number > 0; number--)); do
        [[ $(cat "$run/nodes/$number/origin" "$run/nodes/$number/from" 2> /dev/null) == "$origin"$'\n'"$now" ]] || break
        count=$((count + 1))
    done
    echo $count
}

plan() {
    case $way in
        local) "$bin/split-resources" --local --oversubscribe --ps "$PS_NODES" --workers "$WORKERS" ;;
        pe) plan_pe ;;
        array) plan_array ;;
    esac > "$here/plan.tsv"
}

# ---- its nodes: started by the means of the way, each under node.sh, which outlives a crash of the node

declare -A starter=() # of a node: the process that holds it

start_nodes() {
    local role index host gpus
    if [[ $way == array ]]; then
        submit_nodes
        return
    fi
    while IFS=$'\t' read -r role index host _ gpus; do
        [[ $role != chief ]] || continue
        export RUN=$run ATTEMPT=$attempt HOST=$host GPUS=$gpus THREADS=$threads JOB=${JOB_ID:-} DEPTHFIELD=$house
        if [[ $way == pe ]]; then
            (deaf qrsh -inherit -nostdin -v "$(variables RUN ATTEMPT HOST GPUS THREADS JOB DEPTHFIELD)" "$host" \
                "$house/sge/node.sh" "$role" "$index" >> "$run/logs/$role-$index.log" 2>&1) &
        else
            # the plan has the names of GPUs here, where it was made
            (deaf env -u CUDA_VISIBLE_DEVICES "$house/sge/node.sh" "$role" "$index" 2>> "$run/logs/$role-$index.log") &
        fi
        starter[$role-$index]=$!
    done < "$here/plan.tsv"
}

deaf() { # Grid Engine's warnings reach every process of the job: they are for this script and for train-depth
    trap '' USR1 USR2
    exec "$@"
}

alive() { [[ -n $1 ]] && kill -0 "$1" 2> /dev/null; } # PID

pause() { sleep 0.2 || true; } 2> /dev/null # silent: here bash would print the command line of a child that was killed

living() { # prints the ids of those who hold nodes
    local id
    for id in "${starter[@]}"; do ! alive "$id" || echo "$id"; done
}

end_nodes() { # the watcher is gone: they end by themselves; here is who does not
    local signal patience=50 id
    for signal in 0 TERM KILL; do # 0 only looks; 10, 5 and 5 seconds
        for id in $(living); do kill -s "$signal" "$id" 2> /dev/null || true; done
        for ((; patience > 0; patience--)); do
            [[ -n $(living) ]] || break 2
            pause
        done
        patience=25
    done
    starter=()
    [[ $way != array ]] || end_submitted
}

# ---- signals: the first asks train-depth to save and end

asked_to_stop="" watcher="" gatherer="" signalled=""
on_stop() { # STATUS
    asked_to_stop=$1 signalled=yes
    ! alive "$watcher" || kill -TERM "$watcher" 2> /dev/null || true
}
on_save() {
    signalled=yes
    ! alive "$watcher" || kill -USR1 "$watcher" 2> /dev/null || true
}
at_exit() { # whatever ended this script: nothing of it lives on
    local status=$?
    trap '' TERM INT USR1 USR2
    set +e
    ! alive "$watcher" || kill -TERM "$watcher"
    ! alive "$gatherer" || kill -TERM "$gatherer"
    end_nodes
    ! alive "$watcher" || kill -KILL "$watcher"
    rm -f "$run/nodes/hosts-$job" "${here:-$run}/cluster"
    [[ -z ${here:-} ]] || grep -q '^ended' "$here/state" 2> /dev/null || echo "ended with status $status" > "$here/state"
    exit "$status"
}
trap at_exit EXIT
trap 'on_stop 143' TERM USR2
trap 'on_stop 130' INT
trap on_save USR1

await() { # PID: its status, whatever signals come meanwhile
    local status
    while true; do
        status=0 signalled=""
        wait "$1" || status=$?
        if [[ -z $signalled ]] || ! alive "$1"; then return "$status"; fi
    done
}

state() { # what cluster-status shows
    echo "$*" > "$here/state"
    say "$*"
}

# ---- training: gather-spec tells train-depth the cluster, watch-nodes ends it when the cluster breaks

train() {
    local left=$WAIT settings=() status=0 set
    if [[ -n $leave ]]; then
        settings+=(--timeout $((leave - SECONDS)))
        [[ $left -le $((leave - SECONDS)) ]] || left=$((leave - SECONDS))
    fi
    [[ -z $STEPS ]] || settings+=(--steps "$STEPS")
    for set in "batch_size=$BATCHSIZE" "checkpoint_seconds=$CKPT_FREQ" "summary_seconds=$SUM_FREQ"; do
        [[ $set == *= ]] || settings+=(--set "$set")
    done
    rm -f "$here/cluster"
    mkfifo "$here/cluster"
    (deaf env CUDA_VISIBLE_DEVICES="" "$bin/watch-nodes" --run "$run" --attempt "$attempt" --host "$me" \
        --plan "$here/plan.tsv" "$bin/train-depth" --recipe "$RECIPE" --run "$run" --cluster - "${settings[@]}" \
        "$@" "${records[@]}" < "$here/cluster") &
    watcher=$!
    (deaf "$bin/gather-spec" --run "$run" --attempt "$attempt" --timeout "$left" "$here/plan.tsv" \
        > >(tee "$here/cluster.json" > "$here/cluster")) &
    gatherer=$!
    [[ -z $asked_to_stop ]] || on_stop "$asked_to_stop" # it came a moment ago
    while alive "$watcher" && [[ ! -e $here/watcher-0.json ]]; do pause; done # the nodes look for it
    ! alive "$watcher" || start_nodes
    await "$watcher" || status=$?
    alive "$gatherer" && kill -TERM "$gatherer"
    wait "$gatherer" || true
    watcher="" gatherer=""
    return "$status"
}

if ! flock -w 90 "$run/lock" true; then fail "$run: another train-depth is at work on this run"; fi
while true; do
    if [[ $(fruitless) -ge $attempts_allowed ]]; then
        say "$attempts_allowed attempts without a new checkpoint, giving up: see $run/logs"
        exit "$gave_up"
    fi
    new_attempt
    plan || exit 1
    say "run $run, attempt $attempt${JOB_ID:+, job $JOB_ID}: $PS_NODES ps, $WORKERS workers${leave:+, until second $leave}"
    say "to watch it: $bin/cluster-status --run $run; tail -f $run/logs/*.log; tensorboard --logdir $run/events"
    say "to stop it, with everything saved: make stop RUNID=$RUNID; the same command goes on from there"
    state "waiting for nodes"
    status=0
    train "$@" || status=$?
    ended=$SECONDS
    end_nodes
    state "ended with status $status after $ended s"
    lost=$(cat "$here/lost" 2> /dev/null || true)
    if [[ -e $here/stop ]]; then
        [[ $status -ne 99 || $way == local ]] || status=1 # 99 would begin it again
        say "stopped as asked; the same command goes on"
        exit "$status"
    fi
    [[ -z $asked_to_stop ]] || exit $((status == 99 || status == 0 ? status : asked_to_stop))
    case $status in
        0 | 1 | 2) exit "$status" ;; # done, or train-depth said why not: another attempt would say the same
        99) # the clock
            say "time is over, everything is saved"
            begin_again
            ;;
        75) without_lost "$lost" ;; # the cluster broke
        *) say "train-depth ended with status $status" ;; # it was killed
    esac
    [[ -z $leave || $((leave - SECONDS)) -gt 20 ]] || begin_again
done
