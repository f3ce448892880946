#!/bin/bash
# Makes patch files in an array job; each task takes its share of the photos:
#
#   qsub -t 1-16 sge/prepare.sh nyu                  a sixteenth of the photos each
#   qsub -t 1-16 sge/prepare.sh nyu --width 320      other arguments go to make-patches
#   sge/prepare.sh rooms                             outside a grid: all photos, on all cores
#
# Current patch files are kept, so a task may be run again. The next step: make convert nyu
#$ -cwd
#$ -S /bin/bash
#$ -j y
#$ -r y
set -euo pipefail
[[ $# -gt 0 && $1 != -* ]] || { echo "prepare.sh: no dataset given; name one: prepare.sh nyu" >&2; exit 2; }
home=$(dirname "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")")
[[ -z ${JOB_ID:-} || -x $home/bin/make-patches ]] || home=${DEPTHFIELD:-$PWD} # this file is a copy in Grid Engine's spool
[[ -x $home/bin/make-patches ]] ||
    { echo "prepare.sh: $home is not the depthfield folder; submit from there, or with -v DEPTHFIELD=FOLDER" >&2; exit 1; }
share=()
if [[ ${SGE_TASK_ID:-undefined} != undefined ]]; then # tasks first-last:step
    share=(--jobs "${NSLOTS:-1}" --part "$(((SGE_TASK_ID - SGE_TASK_FIRST) / SGE_TASK_STEPSIZE + 1))/$(((SGE_TASK_LAST - SGE_TASK_FIRST) / SGE_TASK_STEPSIZE + 1))")
fi
exec "$home/bin/make-patches" "${share[@]}" "${@:2}" "${DATA_DIR:-./data}/$1/raw"
