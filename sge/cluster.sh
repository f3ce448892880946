#!/bin/bash
# Trains a run on a cluster. This script is one attempt; bin/run-cluster calls it, one attempt after another.
#
#   qsub -pe PE 13 sge/cluster.sh                  one job of 13 slots: 1 chief, 8 ps, 4 workers
#   PE=orte WORKERS=4 PS_NODES=8 sge/cluster.sh    the same; outside a job the script submits itself
#   WORKERS=4 PS_NODES=8 sge/cluster.sh            without PE: a job with one slot, which submits its nodes as array jobs
#   GRID=no WORKERS=2 sge/cluster.sh               nodes are processes on this machine; the default without a grid
#   WORKERS=4 PS_NODES=0 sge/cluster.sh            all-reduce: the chief and 3 worker nodes train in step
#   sge/cluster.sh WORKERS=4 WAIT=600 --set learning_rate=0.01
#   ATTEMPT=1 RUN=$PWD/runs/trial sge/cluster.sh   one attempt by hand, for debugging
#
# Settings come from the environment or from the first arguments (a job gets no environment). All other arguments go to
# train-depth. The exit status is that of run-cluster; see its --help.
#$ -cwd
#$ -S /bin/bash
#$ -j y
#$ -r y
#$ -notify
set -euo pipefail
umask 077
trap '' USR1 USR2 # Grid Engine warns all processes of a job; run-cluster passes the signals on
export SETTINGS_GIVEN='' # the names of the settings among the arguments; run-cluster refuses one that it does not know
while [[ ${1:-} =~ ^[A-Z_]+= ]]; do export "${1?}" SETTINGS_GIVEN="$SETTINGS_GIVEN ${1%%=*}"; shift; done
if [[ ${1:-} == --wait ]]; then export WAIT=${2:-nothing}; shift $(($# < 2 ? 1 : 2)); fi

export DATA_DIR=${DATA_DIR:-./data}                   # folder of the datasets
export DATASET=${DATASET:-rooms}                      # the dataset to train on; needs its shards (make convert)
export RECIPE=${RECIPE:-small}                        # a recipe in lib/recipes, or the path of a .toml file
export RUN_DIR=${RUN_DIR:-./runs}                     # folder of the runs
export RUNID=${RUNID:-$DATASET-$(basename "$RECIPE" .toml)} # name of the run; an existing run continues
export PS_NODES=${PS_NODES:-} WORKERS=${WORKERS:-}    # default 1 and 2; in a parallel environment, as many as its slots allow. PS_NODES=0: all-reduce
export SLOTS_PER_NODE=${SLOTS_PER_NODE:-1}            # slots of each node, and cores it computes on
export PE=${PE:-}                                     # parallel environment to submit to; if empty, array jobs
export REQUEST=${REQUEST:-}                           # arguments of qsub for the job: "-q long.q -l h_rt=8:0:0"
export WORKER_REQUEST=${WORKER_REQUEST:-} PS_REQUEST=${PS_REQUEST:-} # the same for array jobs: "-l gpu=1"
export NODE_PE=${NODE_PE:-smp}                        # parallel environment on one host, for array jobs with SLOTS_PER_NODE above 1
export MEMORY=${MEMORY:-}                             # memory of each node: 8G
export GRID_QUEUES=${GRID_QUEUES:-}                   # queues for the job and its nodes, as in qsub -q; if empty, all
export GPUS_PER_SLOT=${GPUS_PER_SLOT:-}               # GPUs that the job gets with each slot
export TIMEOUT=${TIMEOUT:-}                           # seconds until it saves and stops; if empty, from the job's time limit
export WAIT=${WAIT:-}                                 # seconds to wait for slots and nodes; default 3600 for array jobs, otherwise 120
export STEPS=${STEPS:-} BATCHSIZE=${BATCHSIZE:-}      # total steps and photos per step; if empty, the recipe's
export CKPT_FREQ=${CKPT_FREQ:-} SUM_FREQ=${SUM_FREQ:-} # seconds between checkpoints, and between lines of metrics
export GRID=${GRID:-}                                 # no: do not use Grid Engine

# In a job this file is a copy in Grid Engine's spool; the project is the folder that the job was submitted from.
home=$(dirname "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")")
[[ -x $home/bin/run-cluster ]] || home=${DEPTHFIELD:-$PWD}
[[ -x $home/bin/run-cluster ]] ||
    { echo "cluster.sh: $home is not the depthfield folder; submit from there, or with -v DEPTHFIELD=FOLDER" >&2; exit 1; }
[[ -n ${ATTEMPT:-} ]] || exec "$home/bin/run-cluster" "$home/sge/cluster.sh" "$@"

# ---- one attempt: run-cluster sets RUN, ATTEMPT, WAY and what depends on them
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
