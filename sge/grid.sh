# shellcheck shell=bash disable=SC2034,SC2153,SC2154
# What cluster.sh asks of Grid Engine and does by it. Sourced; speaks of cluster.sh's own variables.

there_is_a_grid() { # a client is installed, and it knows a qmaster
    command -v qsub > /dev/null && grep -q '[^[:space:]]' \
        "${SGE_ROOT:-/var/lib/gridengine}/${SGE_CELL:-default}/common/act_qmaster" 2> /dev/null
}

plain_names() { # qsub -v and qrsh take lists parted by commas, and qrsh joins its arguments by spaces
    [[ ! $run$house =~ [,[:space:]] ]] || fail "no commas or spaces on a grid, please: $run, $house"
}

variables() { # NAME...: as qsub -v wants them
    local name list=""
    for name; do list+=,$name=${!name}; done
    echo "${list#,}"
}

one_line() { tr -s '\n' ' ' | sed 's/ *$//'; }

# ---- submission: what is missing is said now

submit() { # what goes on to train-depth...
    local name told id nodes settings=() slots=()
    plain_names
    PS_NODES=${PS_NODES:-1} WORKERS=${WORKERS:-2}
    nodes=$((1 + PS_NODES + WORKERS))
    if [[ -n $PE ]]; then
        check_pe
        slots=(-pe "$PE" $((nodes * SLOTS_PER_NODE)))
    fi
    for name in "${named[@]}"; do [[ -z ${!name:-} ]] || settings+=("$name=${!name}"); done
    # shellcheck disable=SC2086 # REQUEST is a list of arguments
    if ! told=$(qsub -terse -cwd -w e -N "train-$RUNID" -o "$run/logs/cluster.log" -v "DEPTHFIELD=$house" \
        "${slots[@]}" $REQUEST "$house/sge/cluster.sh" "${settings[@]}" "$@" 2>&1); then
        fail "qsub refused it: $(one_line <<< "$told") (GRID=no trains on this machine alone)"
    fi
    id=$(tail -n 1 <<< "$told")
    echo "$id" > "$run/job"
    if [[ -n $PE ]]; then
        say "run $run: job $id, $PS_NODES ps and $WORKERS workers in ${slots[2]} slots of $PE, waiting for slots"
    else
        say "run $run: job $id, which submits $PS_NODES ps and $WORKERS workers when it starts, waiting for a slot"
    fi
    say "to watch it: $bin/cluster-status --run $run; tail -F $run/logs/cluster.log"
    say "to stop it, with everything saved: make stop RUNID=$RUNID; the same command goes on from there"
    [[ -z $PE || -z $WAIT ]] || wait_for_start "$id"
}

check_pe() {
    local told
    if ! told=$(qconf -sp "$PE" 2>&1); then
        fail "$(one_line <<< "$told"); the parallel environments here are: $(qconf -spl 2>&1 | one_line)"
    fi
    grep -Eqi '^control_slaves +TRUE' <<< "$told" ||
        fail "parallel environment $PE has no control_slaves TRUE, which qrsh -inherit needs (see sge/pe.conf); without PE the nodes are array jobs"
    [[ -n $(qselect -pe "$PE" 2> /dev/null) ]] || fail "no queue has the parallel environment $PE in its pe_list"
}

wait_for_start() { # ID: until WAIT seconds are over
    while [[ $SECONDS -lt $WAIT ]]; do
        [[ ! $(qstat -s p -u "$USER" 2> /dev/null | awk -v id="$1" '$1 == id { print $5 }') == "" ]] || return 0
        sleep 1
    done
    qdel "$1" > /dev/null
    fail "job $1 got no slots within $WAIT s and is deleted; $(what_is_free)"
}

what_is_free() {
    echo "free slots by queue: $(qstat -g c 2> /dev/null | awk 'NR > 2 { printf "%s%s %d of %d", sep, $1, $5, $6; sep = ", " }')"
}

# ---- time: leave before the limit ends the job, which would not be rerun then

time_to_leave() { # WAY: prints a second of this script, or nothing
    local limit="" seconds margin
    if [[ $1 != local ]]; then
        for seconds in $(limits); do
            [[ -n $limit && $limit -le $seconds ]] || limit=$seconds
        done
        if [[ -n $limit ]]; then
            margin=$((limit / 10 < 15 ? 15 : limit / 10 > 300 ? 300 : limit / 10))
            limit=$((limit > margin ? limit - margin : 1))
        fi
    fi
    if [[ -n $TIMEOUT && ( -z $limit || $TIMEOUT -lt $limit ) ]]; then limit=$TIMEOUT; fi
    echo "$limit"
}

limits() { # h_rt and s_rt of the job and of its queues, in seconds
    local queue
    {
        qstat -j "$JOB_ID" 2> /dev/null | sed -n 's/^hard resource_list: *//p' | tr ',' '\n' | grep -E '^[hs]_rt=' || true
        for queue in $(awk '{ sub(/@.*/, "", $3); print $3 }' "${PE_HOSTFILE:-/dev/null}" | sort -u) $QUEUE; do
            qconf -sq "$queue" 2> /dev/null | grep -E '^[hs]_rt ' || true
        done
    } | tr ' ,=[]' '\n' | awk -F : '/^[0-9]+(:[0-9]+)*$/ { s = 0; for (i = 1; i <= NF; i++) s = s * 60 + $i; print s }'
}

# ---- nodes in a parallel environment

plan_pe() { # fewer nodes where hosts were lost
    local hosts=$run/nodes/hosts-$job places gpus=()
    places=$(awk -v k="$SLOTS_PER_NODE" '{ n[$1] += $2 } END { for (h in n) p += int(n[h] / k); print p - 1 }' "$hosts")
    [[ $((PS_NODES + WORKERS)) -le $places ]] || WORKERS=$((places - PS_NODES > 1 ? places - PS_NODES : 1))
    [[ $((PS_NODES + WORKERS)) -le $places ]] || PS_NODES=$((places - WORKERS > 1 ? places - WORKERS : 1))
    [[ -z $GPUS_PER_SLOT ]] || gpus=(--gpus-per-slot "$GPUS_PER_SLOT")
    if qhost -q -F -xml -h "$(awk '{ print $1 }' "$hosts" | sort -u | paste -sd ,)" > "$here/qhost.xml" 2> /dev/null; then
        gpus+=(--qhost "$here/qhost.xml")
    fi
    "$bin/split-resources" --pe "$hosts" "${gpus[@]}" --slots-per-node "$SLOTS_PER_NODE" --ps "$PS_NODES" --workers "$WORKERS"
}

# ---- nodes as array jobs

submitted=()

plan_array() { # the grid chooses the hosts
    local role index
    printf 'chief\t0\t%s\t0\t-\n' "$me"
    for role in ps:"$PS_NODES" worker:"$WORKERS"; do
        for ((index = 0; index < ${role#*:}; index++)); do printf '%s\t%d\t*\t0\t-\n' "${role%:*}" $index; done
    done
}

submit_nodes() {
    local role count request told list slots=()
    [[ $SLOTS_PER_NODE -eq 1 ]] || slots=(-pe "$NODE_PE" "$SLOTS_PER_NODE")
    list=$(RUN=$run ATTEMPT=$attempt THREADS=$threads DEPTHFIELD=$house GPUS="" HOST="" JOB=$JOB_ID \
        variables RUN ATTEMPT THREADS DEPTHFIELD GPUS HOST JOB)
    for role in ps worker; do
        if [[ $role == ps ]]; then count=$PS_NODES request=$PS_REQUEST; else count=$WORKERS request=$WORKER_REQUEST; fi
        # shellcheck disable=SC2086 # a list of arguments
        told=$(qsub -terse -w e -N "$role-$RUNID" -o /dev/null -t "1-$count" -v "$list" "${slots[@]}" $request \
            ${gone:+-l "h=!($(IFS='|'; echo "${gone[*]}"))"} "$house/sge/node.sh" "$role" 2>&1) ||
            fail "qsub refused the array job of $count $role: $(one_line <<< "$told")"
        submitted+=("$(tail -n 1 <<< "$told" | sed 's/[^0-9].*//')")
    done
    state "waiting for slots: array jobs ${submitted[*]}"
}

end_submitted() { # their tasks end with the watcher; those that wait for a slot, and those that do not end, are deleted
    local patience
    [[ ${#submitted[@]} -gt 0 ]] || return 0
    for ((patience = 25; patience > 0; patience--)); do
        [[ -n $(submitted_left) ]] || break
        pause
    done
    qdel "${submitted[@]}" > /dev/null 2>&1 || true
    submitted=()
}

submitted_left() { qstat -u "$USER" 2> /dev/null | awk -v ids=" ${submitted[*]} " 'index(ids, " " $1 " ")'; }

# ---- after a cluster broke

gone=() # hosts

without_lost() { # HOSTS, one a line: leave these hosts out of the next attempt; where that cannot be, give the job back
    local host
    while read -r -u 3 host; do
        [[ -n $host ]] || continue
        case $way in
            pe)
                [[ $host != "$me" ]] || continue
                say "going on without $host"
                awk -v host="$host" '$1 != host' "$run/nodes/hosts-$job" > "$here/hosts"
                cp "$here/hosts" "$run/nodes/hosts-$job"
                ;;
            array) [[ $host != '*' ]] || fail "no slots for all nodes within $WAIT s, giving up; $(what_is_free)" ;;
        esac
        gone+=("$host")
    done 3<<< "$1"
    if [[ $way == pe ]] && ! plan_pe > /dev/null 2>&1; then
        say "too few hosts are left"
        begin_again
    fi
}

begin_again() { # in a job of its own, and end this one
    if [[ $way == pe ]] && resubmit "$run" "$JOB_ID" "${gone[@]}"; then
        say "job $(cat "$run/job") goes on"
        exit 0
    fi
    # Status 99 makes Grid Engine run the same job again; a parallel job only on hosts that had no part in it before.
    if [[ $way == local ]]; then say "the same command goes on"; else say "job $JOB_ID goes on by itself"; fi
    exit 99
}

# A copy of the job takes its place, with all that was asked for, but not on these hosts; RUN/job is its id then.
resubmit() { # RUN JOB HOST...
    local run=$1 job=$2 told id
    if ! told=$(qresub -h u "$job" 2>&1); then
        echo "qresub: $told" >&2
        return 1
    fi
    id=$(sed -n 's/^Your job \([0-9]*\) .*/\1/p' <<< "$told")
    cp "$run/nodes/origin-$job" "$run/nodes/origin-$id" 2> /dev/null || echo "$job" > "$run/nodes/origin-$id"
    echo "$id" > "$run/job"
    [[ $# -lt 3 ]] || avoid "$id" "${@:3}"
    qrls "$id" >&2
}

# For minutes Grid Engine does not know that a host is lost, and a job it sends there stays in the state t for ever.
avoid() { # JOB HOST...
    local asked not
    not=$(IFS='|'; echo "!(${*:2})")
    asked=$(qstat -j "$1" | sed -n 's/^hard resource_list: *//p')
    if [[ $asked =~ ^(.*)hostname=([^,]*)(.*)$ ]]; then
        asked="${BASH_REMATCH[1]}hostname=(${BASH_REMATCH[2]})&$not${BASH_REMATCH[3]}"
    else
        asked+=${asked:+,}hostname=$not
    fi
    qalter -l "$asked" "$1" >&2
}
