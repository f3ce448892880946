#!/bin/bash
# Makes patches as an array job, each task its share of the photos:
#
#   qsub -t 1-16 sge/prepare.sh nyu                  a sixteenth of the photos each
#   qsub -t 1-16 sge/prepare.sh nyu --width 320      other arguments go on to make-patches
#   sge/prepare.sh rooms                             outside a grid: all of them, by all cores
#
# What is there already and good is kept, so a task may be run again. Then: make convert nyu
#$ -cwd
#$ -S /bin/bash
#$ -j y
#$ -r y
set -euo pipefail
[[ $# -gt 0 && $1 != -* ]] || { echo "prepare.sh: name a data set: prepare.sh nyu" >&2; exit 2; }
house=$(dirname "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")")
[[ -z ${JOB_ID:-} || -x $house/bin/make-patches ]] || house=${DEPTHFIELD:-$PWD} # here a copy in Grid Engine's spool
[[ -x $house/bin/make-patches ]] ||
    { echo "prepare.sh: $house is not depthfield: submit from its folder, or with -v DEPTHFIELD=folder" >&2; exit 1; }
share=()
if [[ ${SGE_TASK_ID:-undefined} != undefined ]]; then # tasks first-last:step
    share=(--jobs "${NSLOTS:-1}" --part "$(((SGE_TASK_ID - SGE_TASK_FIRST) / SGE_TASK_STEPSIZE + 1))/$(((SGE_TASK_LAST - SGE_TASK_FIRST) / SGE_TASK_STEPSIZE + 1))")
fi
exec "$house/bin/make-patches" "${share[@]}" "${@:2}" "${DATA_DIR:-./data}/$1/raw"
