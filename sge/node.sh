#!/bin/bash
# One node of an attempt, on its own host: node.sh ROLE [INDEX] starts ps-node or worker-node, and starts a worker that
# crashed again on the port it had. A crashed ps has lost its parameters: the next attempt begins from the checkpoint.
#
# cluster.sh starts it, as a process, by qrsh -inherit, or as a task of an array job, which is the index then. It always
# exits with 0: a task of a parallel environment that dies takes the whole job with it. RUN, ATTEMPT, THREADS, HOST,
# GPUS (which of the GPUs here, - where the plan knows of none, empty where the grid chooses), JOB (the chief's) and
# DEPTHFIELD come from the environment.
#$ -S /bin/bash
#$ -j y
#$ -r n
umask 077
role=$1 index=${2:-$((SGE_TASK_ID - 1))}
restarts_allowed=5
child=""
# shellcheck disable=SC2329 # a trap calls it
end() {
    local patience=20
    restarts_allowed=-1
    [[ -n $child ]] || return
    kill -TERM "$child" 2> /dev/null
    while kill -0 "$child" 2> /dev/null && [[ $((patience--)) -gt 0 ]]; do sleep 0.2; done
    kill -KILL "$child" 2> /dev/null
}
chief_is_lost() { # it may be this host that was cut off; the first of us to know acts. Times are those of the disk
    local here=$RUN/nodes/$ATTEMPT
    mkdir "$here/resubmitted" 2> /dev/null || return
    if grep -q '^ended' "$here/state" || [[ -e $RUN/nodes/$((ATTEMPT + 1)) ||
        $(($(stat -c %Y "$here/resubmitted") - $(stat -c %Y "$here/state.json"))) -lt 15 ]]; then
        rmdir "$here/resubmitted"
        return 1
    fi
}

trap '' USR1 USR2 # Grid Engine's warnings reach every task; the chief heeds them
trap end TERM INT
exec 2>> "$RUN/logs/$role-$index.log" || exit 0

if [[ $role == ps || ( ${GPUS?} == - && -z ${CUDA_VISIBLE_DEVICES:-} ) ]]; then
    export CUDA_VISIBLE_DEVICES=""
elif [[ $GPUS =~ ^[0-9]+$ ]]; then # the plan counts them; their names are those that the site lets us see
    IFS=, read -ra visible <<< "${CUDA_VISIBLE_DEVICES:-}"
    export CUDA_VISIBLE_DEVICES=${visible[$GPUS]:-$GPUS}
fi
export TF_NUM_INTRAOP_THREADS=$THREADS OMP_NUM_THREADS=$THREADS

for ((restarts = 0; restarts <= restarts_allowed; restarts++)); do
    echo "---- attempt $ATTEMPT, $(date '+%F %T'), $(hostname)${JOB_ID:+, job $JOB_ID}" >&2
    "$DEPTHFIELD/bin/$role-node" --run "$RUN" --attempt "$ATTEMPT" --index "$index" --host "${HOST:-$HOSTNAME}" \
        --threads "$THREADS" --parent $$ --watched &
    child=$!
    wait "$child"
    status=$?
    while kill -0 "$child" 2> /dev/null; do wait "$child"; status=$?; done # a signal came between
    if [[ $status -eq 75 ]]; then
        # With the chief's host the job script is gone, and the job stays as it is until that host is back. (Rescheduled,
        # by reschedule_unknown or qmod -rj, a parallel job was seen to stay in the state Rt.) One of us submits its copy.
        if [[ -n $JOB ]] && chief_is_lost; then
            # shellcheck source=sge/grid.sh
            . "$DEPTHFIELD/sge/grid.sh"
            lost=$(sed -n 's/.*"host": *"\([^"]*\)".*/\1/p' "$RUN/nodes/$ATTEMPT/watcher-0.json")
            if resubmit "$RUN" "$JOB" "$lost"; then qdel "$JOB" >&2; fi
        fi
        break
    fi
    [[ $status -ne 0 ]] || break
    if [[ $role == ps || $restarts -ge $restarts_allowed ]]; then
        [[ $restarts_allowed -lt 0 ]] || : > "$RUN/nodes/$ATTEMPT/$role-$index.failed" # watch-nodes looks for it
        break
    fi
    echo "node.sh: $role-$index ended with status $status, restart $((restarts + 1)) of $restarts_allowed" >&2
    sleep 1
done
exit 0
