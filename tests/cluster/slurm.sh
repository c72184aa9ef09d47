#!/bin/sh
# A SLURM cluster of one machine, for tests: munged, slurmctld and slurmd, started without systemd. Run it as root.
#   apt-get install slurm-wlm munge
#   sh tests/cluster/slurm.sh start FOLDER   # configuration, logs and state go to FOLDER
#   export SLURM_CONF=FOLDER/slurm.conf      # then sbatch, srun, squeue ... use it
#   sh tests/cluster/slurm.sh stop FOLDER
set -eu
folder=$(realpath "$2")
host=$(hostname -s)

configure() {
    mkdir -p "$folder/state" "$folder/spool" "$folder/munge"
    dd if=/dev/urandom of="$folder/munge/key" bs=64 count=1 2>"$folder/dd.log"
    chmod 600 "$folder/munge/key"
    # four tasks run at once, however many cores there are; nothing limits them
    cat >"$folder/slurm.conf" <<CONF
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=16817
SlurmdPort=16818
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/munge/socket,cred_expire=5
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=5,batch_sched_delay=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
KillWait=30
ReturnToService=2
SlurmdParameters=config_overrides
NodeName=$host NodeAddr=127.0.0.1 CPUs=4 State=UNKNOWN
PartitionName=low Nodes=ALL Default=YES PriorityTier=1 GraceTime=60 MaxTime=INFINITE State=UP
PartitionName=high Nodes=ALL PriorityTier=2 PreemptMode=OFF MaxTime=INFINITE State=UP
CONF
}

start() {
    configure
    export SLURM_CONF="$folder/slurm.conf"
    # --force: the folder may lie below one that others can write to, such as /tmp
    munged --force --key-file="$folder/munge/key" --socket="$folder/munge/socket" \
        --pid-file="$folder/munge/pid" --log-file="$folder/munge/log" --seed-file="$folder/munge/seed" 2>>"$folder/munge/warnings"
    slurmctld
    slurmd
    for _ in $(seq 60); do
        if sinfo --noheader --states=idle 2>/dev/null | grep -q "$host"; then return; fi
        sleep 1
    done
    tail -n 20 "$folder/slurmctld.log" "$folder/slurmd.log" >&2
    exit 1
}

# end a process, by force if it has not ended after ten seconds: slurmd may wait for a job that was queued again
end() {
    kill "$1" 2>/dev/null || return 0
    for _ in $(seq 50); do
        kill -0 "$1" 2>/dev/null || return 0
        sleep 0.2
    done
    kill -KILL "$1" 2>/dev/null || true
}

stop() {
    export SLURM_CONF="$folder/slurm.conf"
    scancel --user=root --signal=KILL --full 2>/dev/null || true
    for pid in slurmd.pid slurmctld.pid munge/pid; do
        if [ -s "$folder/$pid" ]; then end "$(cat "$folder/$pid")"; fi
    done
}

case $1 in
    start) start ;;
    stop) stop ;;
    *) echo "expected start or stop, got $1" >&2; exit 2 ;;
esac
