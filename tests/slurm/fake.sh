#!/bin/bash
# Slurm's programs as the tests want them, under the name by which this file is called. Jobs are files below $FAKE/jobs, each a line of
# squeue; files beside them say what goes wrong:
#   say-PROGRAM   its words on the standard error, instead of an answer
#   timed-out     the first job is taken, and sbatch says that nobody answered
#   forget        jobs that ended are in the queue no more
#   late          what a job wrote is seen 2 s after its end
#   kill STATE    jobs are killed 1 s after their start and end in this state
#   kill-once     the first job is killed 1 s after its start and ends as FAILED
#   requeue       the first job is asked to end after 1 s and is then started again under its number
#   preempt       the first job is asked to end after 1 s and ends as PREEMPTED
#   reuse         the number of a job that ended belongs to a stranger
program=${0##*/}
cd "$FAKE" || exit 1
if [ -f "say-$program" ]; then
    cat "say-$program" >&2
    exit 1
fi
put() { printf '%s|%s|%s|n1|%s|%s\n' "$1" "$2" "$3" "$name" "$comment" >"jobs/.$1"; mv "jobs/.$1" "jobs/$1"; }
once() { [ -f "$1" ] && rm "$1"; }

run() {
    local id=$1 script=$2 ask= kill= state=COMPLETED
    [ -f kill ] && kill=$(cat kill)
    once kill-once && kill=FAILED
    once requeue && ask=requeue
    once preempt && ask=preempt
    put "$id" RUNNING None
    if [ -f late ]; then
        sed "s#__job '\([^']*\)'#__job '\1.hidden'#" "$script" >"late.$id.sh"
        chmod +x "late.$id.sh"
        files=$(sed -n "s#.*__job '\([^']*\)'.*#\1#p" "$script")
        script=./late.$id.sh
    fi
    SLURM_JOB_ID=$id setsid bash "$script" >>"$log" 2>&1 &
    local pid=$!
    if [ -n "$ask$kill" ]; then
        sleep 1
        if [ -n "$kill" ]; then kill -KILL -- -$pid; else kill -TERM $pid; fi
    fi
    wait $pid || state=FAILED
    [ -f late ] && (sleep 2; mv "$files.hidden.$id.events" "$files.$id.events") &
    case $ask in
        requeue) put "$id" PENDING BeginTime; sleep 2; run "$id" "$script"; return ;;
        preempt) state=PREEMPTED ;;
    esac
    put "$id" "${kill:-$state}" None
    [ -f forget ] && rm "jobs/$id"
    [ -f reuse ] && { name=someone-else; put "$id" RUNNING None; }
}

case $program in
sbatch)
    for word; do
        case $word in
            --job-name=*) name=${word#*=} ;;
            --comment=*) comment=${word#*=} ;;
            --output=*) log=${word#*=} log=${log//%%/%} ;;
        esac
    done
    id=$(($(cat next 2>/dev/null || echo 6) + 1))
    echo $id >next
    printf '%s\n' "$@" >"options.$id"
    run $id "${!#}" </dev/null >/dev/null 2>&1 &
    until [ -f "jobs/$id" ] || [ -f forget ]; do sleep 0.02; done
    if once timed-out; then
        echo 'sbatch: error: Batch job submission failed: Socket timed out on send/recv operation' >&2
        exit 1
    fi
    echo $id
    ;;
squeue) cat jobs/* 2>/dev/null || true ;;
scancel) printf '%s\n' "$*" >>cancelled ;;
*) echo "$program: no accounts" >&2; exit 1 ;;
esac
