#!/bin/bash
# Trains on a cluster. This script is the chain of one attempt; bin/run-cluster runs it, one attempt after the other.
#
#   qsub -pe PE 13 sge/cluster.sh                  one job of 13 slots: 1 chief, 8 ps, 4 workers
#   PE=orte WORKERS=4 PS_NODES=8 sge/cluster.sh    the same: outside a job it submits itself
#   WORKERS=4 PS_NODES=8 sge/cluster.sh            no PE: a job of one slot, which submits its nodes as array jobs
#   GRID=no WORKERS=2 sge/cluster.sh               nodes are processes of this machine; so where there is no grid
#   WORKERS=4 PS_NODES=0 sge/cluster.sh            all-reduce: the chief and 3 worker nodes, no ps, train in step
#   sge/cluster.sh WORKERS=4 WAIT=600 --set learning_rate=0.01
#   ATTEMPT=1 RUN=$PWD/runs/trial sge/cluster.sh   one attempt by hand, to debug it
#
# Settings come from the environment or as first arguments (a job gets no environment); all other arguments go on to
# train-depth. Exit status: that of run-cluster, see its --help.
#$ -cwd
#$ -S /bin/bash
#$ -j y
#$ -r y
#$ -notify
set -euo pipefail
umask 077
trap '' USR1 USR2 # Grid Engine's warnings reach all processes of a job; run-cluster passes them on
while [[ ${1:-} =~ ^[A-Z_]+= ]]; do export "${1?}"; shift; done
if [[ ${1:-} == --wait ]]; then export WAIT=${2:-nothing}; shift $(($# < 2 ? 1 : 2)); fi

export DATA_DIR=${DATA_DIR:-./data}                   # where datasets are
export DATASET=${DATASET:-rooms}                      # one of them, with its records made
export RECIPE=${RECIPE:-small}                        # how to train: a file of lib/recipes, or its path
export RUN_DIR=${RUN_DIR:-./runs}                     # where runs are
export RUNID=${RUNID:-$DATASET-$(basename "$RECIPE" .toml)} # this run; one that is there goes on
export PS_NODES=${PS_NODES:-} WORKERS=${WORKERS:-}    # 1 and 2; in a parallel environment what its slots give. 0 ps: all-reduce
export SLOTS_PER_NODE=${SLOTS_PER_NODE:-1}            # of a job; a node computes on so many cores
export PE=${PE:-}                                     # the parallel environment to submit to; none: array jobs
export REQUEST=${REQUEST:-}                           # qsub's arguments for the job: "-q long.q -l h_rt=8:0:0"
export WORKER_REQUEST=${WORKER_REQUEST:-} PS_REQUEST=${PS_REQUEST:-} # the same for array jobs: "-l gpu=1"
export NODE_PE=${NODE_PE:-smp}                        # a PE on one host, for array jobs with SLOTS_PER_NODE above 1
export MEMORY=${MEMORY:-}                             # of each node: 8G
export GRID_QUEUES=${GRID_QUEUES:-}                   # that job and nodes may use, as for qsub -q; none: all
export GPUS_PER_SLOT=${GPUS_PER_SLOT:-}               # GPUs the job was given with each slot
export TIMEOUT=${TIMEOUT:-}                           # seconds until it stops and goes on later; else the job's limit
export WAIT=${WAIT:-}                                 # seconds to wait for slots and nodes: array jobs 3600, else 120
export STEPS=${STEPS:-} BATCHSIZE=${BATCHSIZE:-}      # the recipe's own, unless they are set here
export CKPT_FREQ=${CKPT_FREQ:-} SUM_FREQ=${SUM_FREQ:-} # seconds between checkpoints, and between lines of metrics
export GRID=${GRID:-}                                 # no: leave Grid Engine alone

# In a job this file is a copy in Grid Engine's spool: the project is where the job was submitted from.
home=$(dirname "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")")
[[ -x $home/bin/run-cluster ]] || home=${DEPTHFIELD:-$PWD}
[[ -x $home/bin/run-cluster ]] ||
    { echo "cluster.sh: $home is not depthfield: submit from its folder, or with -v DEPTHFIELD=folder" >&2; exit 1; }
[[ -n ${ATTEMPT:-} ]] || exec "$home/bin/run-cluster" "$home/sge/cluster.sh" "$@"

# ---- one attempt: run-cluster sets RUN, ATTEMPT, WAY and what follows from them
here=$RUN/nodes/$ATTEMPT
mkdir -p "$here" "$RUN/logs"
bin=$home/bin
attempt=(--run "$RUN" --attempt "$ATTEMPT")

case ${WAY:=machine} in
    machine) hosts=(--local --oversubscribe) ;;
    pe) hosts=(--pe "$here/hosts" --slots-per-node "$SLOTS_PER_NODE" ${GPUS_PER_SLOT:+--gpus-per-slot "$GPUS_PER_SLOT"})
        [[ ! -e $here/qhost.xml ]] || hosts+=(--qhost "$here/qhost.xml") ;;
    array) hosts=(--anywhere "$HOST") ;;
esac
"$bin/split-resources" "${hosts[@]}" --ps "${PS_NODES:-1}" --workers "${WORKERS:-2}" > "$here/plan.tsv"

"$bin/start-nodes" "${attempt[@]}" --way "$WAY" --threads "${THREADS:-1}" --parent $$ "$here/plan.tsv" &

training=(--recipe "$RECIPE" --run "$RUN" --cluster - ${TIMEOUT:+--timeout "$TIMEOUT"} ${STEPS:+--steps "$STEPS"}
    ${BATCHSIZE:+--set "batch_size=$BATCHSIZE"} ${CKPT_FREQ:+--set "checkpoint_seconds=$CKPT_FREQ"}
    ${SUM_FREQ:+--set "summary_seconds=$SUM_FREQ"} "$@" "$DATA_DIR/$DATASET/records/"train-*.tfrecord)
exec "$bin/watch-nodes" "${attempt[@]}" --host "${HOST:-127.0.0.1}" --plan "$here/plan.tsv" \
    "$bin/train-depth" "${training[@]}" \
    < <("$bin/gather-spec" "${attempt[@]}" --timeout "${WAIT:-120}" --parent $$ "$here/plan.tsv" | tee "$here/cluster.json")
