#!/bin/bash
# Batch script of the mpibatch job requeue, for `sbatch`. It is meant to be read and edited.
#
# It starts the job with srun, waits, and sees to it that the job comes to its end: over the wall time, over
# preemption, over lost nodes. What is finished is kept by mpibatch itself, in the run folder: any start goes on.

# What is asked of Slurm. This has to stand before the first command.
#SBATCH --job-name=requeue
#SBATCH --time=1
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --signal=B:USR2@30
#SBATCH --no-kill
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log

# The run folder, as seen from where sbatch was called, and this job's name for Slurm.
output=runs/requeue
run_folder=$output
this_job=$SLURM_JOB_ID
if [ -n "${SLURM_ARRAY_TASK_ID:-}" ]; then  # An element of an array (sbatch --array=0-9).
    run_folder=$output/shares/$(printf %04d "$SLURM_ARRAY_TASK_ID")
    # The bare SLURM_JOB_ID of an array's last element is the whole array.
    this_job=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID
fi

# What each task of srun executes.
command=(mpibatch run requeue.yaml)
first_words=()
step=()
tasks_per_node=1

# How often this job may be put back into the queue, and how often in a row a start or a launch may finish nothing
# before there is no other one.
max_requeues=10
max_restarts=3

# Seconds in which rank 0 has to begin. A launch whose MPI does not come up is ended after that, and launched again.
begin_limit=600

say() { echo "$(date +%H:%M:%S) batch script: $*" >&2; }

# Slurm's signals. USR2 comes before the end of the wall time, TERM with preemption and scancel. mpibatch is
# asked through a file, and nothing is sent to srun: signals to a launcher kill its ranks.
stop_file=$run_folder/.mpibatch/stop
rm -f "$stop_file"  # Of an earlier start.
asked=
ask_to_stop() {
    if [ -d "$run_folder/.mpibatch" ] && [ ! -e "$stop_file" ]; then
        echo "the batch script got $asked" >"$stop_file"
    fi
}
got() {
    # Whoever was there before Slurm is a person who wants an end (mpibatch stop), and no other start.
    if [ -n "$asked" ]; then return; fi
    if [ -e "$stop_file" ]; then say "got $1, but the run is being stopped already"; return; fi
    say "got $1: what is running may finish, nothing new begins"
    asked=$1
    ask_to_stop
}
trap 'got USR2' USR2
trap 'got TERM' TERM

# Rank 0 tells here how it ended: srun's own exit code is the highest of all tasks, and of what kills them.
export MPIBATCH_END_FILE=$PWD/.mpibatch-$SLURM_JOB_ID.end
watcher=  # See watch_from.
trap 'rm -f "$MPIBATCH_END_FILE"; if [ -n "$watcher" ]; then kill "$watcher" 2>/dev/null; fi' EXIT

# From here on a variable that is not set is a mistake (modules and conda do not bear that).
set -u

# Start the run and wait for its end. A signal interrupts `wait`: srun is waited for until it is really gone.
launch() {
    rm -f "$MPIBATCH_END_FILE"
    srun --no-kill --kill-on-bad-exit=0 "${step[@]}" "$@" "${command[@]}" "${first_words[@]}" &
    local pid=$! limit=$((SECONDS + begin_limit)) with=TERM
    late=
    while kill -0 "$pid" 2>/dev/null; do
        if [ "$SECONDS" -ge "$limit" ] && [ ! -s "$MPIBATCH_END_FILE" ]; then
            say "rank 0 has not begun within $begin_limit s (begin_limit in this script): $with to srun"
            kill -"$with" "$pid"
            late=yes limit=$((SECONDS + 60)) with=KILL
        fi
        if [ -n "$asked" ]; then
            ask_to_stop  # Again, as a run that was just beginning has removed the file.
            sleep 1
        elif [ -s "$MPIBATCH_END_FILE" ]; then
            wait "$pid"
        else
            sleep 0.1
        fi
    done
    wait "$pid"
    srun_code=$?
    code='' why=''
    if [ -r "$MPIBATCH_END_FILE" ]; then read -r code why <"$MPIBATCH_END_FILE"; fi
}

# The nodes of this job that answer: those that Slurm knows to be down are left out, the others say their names. Again,
# if none does: Slurm refuses the whole step where a node has just been found to be down.
find_nodes() {
    local up try ours
    nodes=()
    for try in 1 2 3 4 5 6; do
        # As Slurm has it now: it takes lost nodes out of the job.
        ours=$(squeue --noheader --jobs="$this_job" --format=%N 2>/dev/null)
        up=$(sinfo --noheader --Node --nodes="${ours:-$SLURM_JOB_NODELIST}" --format='%N %t' |
            awk '$2 !~ /^(down|fail|unk|unknown)|[*]$/ && !seen[$1]++ { print $1 }' | paste -sd,)
        if [ -n "$up" ]; then
            # Over what the lost step still holds, and without the MPI that may have been lost with it.
            mapfile -t nodes < <(
                timeout --kill-after=5 60 srun --overlap --no-kill --kill-on-bad-exit=0 --mpi=none --nodelist="$up" \
                    --nodes="$(count "$up")" --ntasks="$(count "$up")" --ntasks-per-node=1 \
                    bash -c 'echo "$SLURMD_NODENAME"' 2>/dev/null </dev/null | sort -u
            )
        fi
        if [ "${#nodes[@]}" -gt 0 ] || [ "$try" = 6 ] || [ -n "$asked" ]; then return; fi
        sleep 5
    done
}
count() { echo "$1" | tr , '\n' | wc -l; }

# MPICH names the shared memory of its ranks by a hash (FNV-1a) of "job.step", and what ranks that were killed have left
# of it stays on the node. A job that is put back into the queue counts its steps from 0 again: MPI_Init would take what
# is left for its own, and fail or hang. No step of this job runs when this is called.
forget_lost_ranks() {
    timeout --kill-after=5 60 srun --overlap --no-kill --kill-on-bad-exit=0 --mpi=none \
        --nodes="$SLURM_JOB_NUM_NODES" --ntasks="$SLURM_JOB_NUM_NODES" --ntasks-per-node=1 \
        bash -c "$(declare -f add_to_hash remove_shared_memory); remove_shared_memory $SLURM_JOB_ID" \
        >/dev/null 2>&1 </dev/null
}
remove_shared_memory() {
    local hash of_job step name file
    local -A ours
    hash=2166136261
    add_to_hash "$1."
    of_job=$hash
    for step in {0..999}; do
        hash=$of_job
        add_to_hash "$step"
        printf -v name %x "$hash"
        ours[$name]=yes
    done
    for file in /dev/shm/mpich_*; do
        name=${file#*/mpich_???_}
        if [ -n "${ours[${name%_*}]:-}" ]; then rm -f "$file"; fi
    done
}
add_to_hash() {
    local at byte
    for ((at = 0; at < ${#1}; at++)); do
        printf -v byte %d "'${1:at:1}"
        hash=$((((hash ^ byte) * 16777619) & 0xffffffff))
    done
}

# What the run has finished: its journals, which grow with that.
finished() {
    find "$run_folder/.mpibatch" -name 'session-*.journal' -size +64c -printf '%p %s\n' 2>/dev/null | sort
}

at_start=$(finished)
in_vain=$run_folder/.mpibatch/in_vain  # How many starts in a row have finished nothing.
if [ -z "${MPIBATCH_SUCCESSIONS:-}" ] && [ "${SLURM_RESTART_COUNT:-0}" -eq 0 ]; then rm -f "$in_vain"; fi

# There is more to do than this job has time for: put it back into the queue. Where the site does not allow that, a
# successor is submitted, which waits for the end of this job.
continue_later() {
    local starts=$((${SLURM_RESTART_COUNT:-0} + ${MPIBATCH_SUCCESSIONS:-0}))
    local state vain=0
    # What one start does not finish the next one does not either: mini-batches that are longer than the wall time.
    if [ "$(finished)" = "$at_start" ]; then vain=$(($(cat "$in_vain" 2>/dev/null || echo 0) + 1)); fi
    if [ -d "$run_folder/.mpibatch" ]; then echo "$vain" >"$in_vain"; fi
    state=$(squeue --noheader --jobs="$this_job" --format=%T 2>/dev/null)
    if [ "$state" != RUNNING ]; then
        say "this job is ${state:-gone}: Slurm ends it. If that is for another job, it comes back by itself; else" \
            "submit it again to go on."
    elif [ "$starts" -ge "$max_requeues" ]; then
        say "this job has been started again $starts times (slurm.max_requeues): submit it again to go on."
    elif [ "$vain" -gt "$max_restarts" ]; then
        say "$vain starts in a row have finished nothing, and the next one would not either: see above which keys to" \
            "change, and submit it again."
    elif scontrol requeue "$this_job"; then
        say "put back into the queue (start $((starts + 1)) of at most $max_requeues more)"
    else
        say "Slurm does not requeue this job: a successor is submitted"
        env -u SLURM_RESTART_COUNT MPIBATCH_SUCCESSIONS=$((starts + 1)) sbatch \
            --dependency="afterany:$this_job" ${SLURM_ARRAY_TASK_ID:+--array="$SLURM_ARRAY_TASK_ID"} "$0" ||
            say "nor does it take a successor: submit the job again to go on."
    fi
    exit 75
}

# With --no-kill Slurm keeps a job whose first node is lost: this script is gone then, and srun with it, but the job
# holds its other nodes, for nothing. So the last of the nodes (arguments) watches over the first, in a step that
# sleeps: it takes nothing from the other steps (--overlap), and ends with this script. A job of one node has none.
watch_from() {
    local last log
    if [ -n "$watcher" ] && kill -0 "$watcher" 2>/dev/null; then return; fi
    watcher=
    last=$(printf '%s\n' "$@" | grep -vxF "${SLURMD_NODENAME:-$1}" | tail -n 1)
    if [ -z "$last" ]; then return; fi
    log=$(readlink "/proc/$$/fd/2")  # It has to write there by itself: what srun passes on ends with srun.
    srun --overlap --mpi=none --nodelist="$last" --nodes=1 --ntasks=1 --ntasks-per-node=1 --mem=0 \
        bash -c "$(declare -f say watch_first_node); watch_first_node \"\$@\"" watcher \
        "$this_job" "$((${SLURM_RESTART_COUNT:-0} + ${MPIBATCH_SUCCESSIONS:-0}))" "$max_requeues" "$stop_file" "$log" \
        >/dev/null 2>&1 </dev/null &
    watcher=$!
}
watch_first_node() {
    local this_job=$1 starts=$2 max_requeues=$3 stop_file=$4 state first ours lost
    if [ -f "$5" ]; then exec 2>>"$5"; fi
    while sleep 30; do
        # Slurm takes a lost node out of the job, but goes on to name it as the one that has the script. It does not
        # answer at times, and whatever ends the job ends this step.
        read -r state first ours < <(squeue --noheader --jobs="$this_job" --format='%T %B %N' 2>/dev/null)
        if [ "$state" != RUNNING ] || [ -z "$ours" ]; then continue; fi
        if ! ours=$(scontrol show hostnames "$ours" 2>/dev/null) || grep -qxF "$first" <<<"$ours"; then continue; fi
        lost="the first node, $first, was lost, and the batch script with it"
        if [ -e "$stop_file" ]; then
            say "$lost: the run was being stopped, and the job ends. Submit it again to go on."
        elif [ "$starts" -ge "$max_requeues" ]; then
            say "$lost, and the job has been started again $starts times (slurm.max_requeues): it ends." \
                "Submit it again to go on."
        else
            say "$lost: the job is put back into the queue (start $((starts + 1)) of at most $max_requeues more)"
            if scontrol requeue "$this_job"; then return; fi
            say "Slurm does not requeue this job: it ends. Submit it again to go on."
        fi
        if scancel "$this_job"; then return; fi
    done
}

if [ "${SLURM_RESTART_COUNT:-0}" -gt 0 ] || [ -n "${MPIBATCH_SUCCESSIONS:-}" ]; then first_words=(); fi
if [ "${SLURM_RESTART_COUNT:-0}" -gt 0 ]; then forget_lost_ranks; fi
mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
watch_from "${nodes[@]}"
on_nodes=()
fruitless=0
while true; do
    if [ -n "$asked" ]; then continue_later; fi
    before=$(finished)
    nodes=()
    launch "${on_nodes[@]}"
    case "$code" in
        75)
            if [ -n "$asked" ] || [ "$why" = batch ]; then continue_later; fi
            if [ "$why" != lost ]; then exit 75; fi  # A person has asked, or no further start would help.
            ;;
        begun | session)  # Rank 0 is gone, and did not say how it ended.
            if [ -n "$asked" ]; then continue_later; fi
            ;;
        "")  # It never began: srun has said why, or a node was lost that soon.
            if [ -n "$asked" ]; then continue_later; fi
            find_nodes
            if [ -z "$late" ] && [ "${#nodes[@]}" -eq "$SLURM_JOB_NUM_NODES" ]; then exit "$srun_code"; fi
            ;;
        *) exit "$code" ;;
    esac

    # The ranks were lost. What was finished is kept: go on with the nodes that are left.
    if [ -e "$stop_file" ]; then exit 75; fi  # And a person has asked for an end.
    if [ "$code" != begun ] && [ -n "$code" ]; then first_words=(); fi
    if [ "$(finished)" = "$before" ]; then fruitless=$((fruitless + 1)); else fruitless=0; fi
    if [ "${#nodes[@]}" -eq 0 ]; then find_nodes; fi
    if [ "$fruitless" -gt "$max_restarts" ] || [ "${#nodes[@]}" -eq 0 ]; then
        say "the ranks were lost (srun: exit code $srun_code), $fruitless times in a row with nothing finished," \
            "and ${#nodes[@]} nodes answer: what kills them has to be found first. Submit it again to go on."
        exit 75
    fi
    say "the ranks were lost (srun: exit code $srun_code): launching again on ${nodes[*]}"
    watch_from "${nodes[@]}"
    # Over what the lost step still holds: Slurm may take it for running as long as the job does.
    on_nodes=(--overlap --nodelist="$(IFS=,; echo "${nodes[*]}")" --nodes="${#nodes[@]}"
        --ntasks="$((${#nodes[@]} * tasks_per_node))" --ntasks-per-node="$tasks_per_node")
done
