#!/bin/sh
# Installs Slurm (Debian's slurm-wlm and munge) and starts a cluster of one node, this machine, without systemd.
#
#     sh slurm/install_one_node.sh [start|stop]
#
# Needs root and Debian or Ubuntu. State, logs and slurm.conf lie in $SLURM_NODE_DIR (default /tmp/slurm_one_node);
# commands find the cluster by the line that `start` prints last: export SLURM_CONF=...
# Exit code 3, with the reason on stderr, where this machine cannot run it.
set -eu

NODE_DIR=${SLURM_NODE_DIR:-/tmp/slurm_one_node}
export SLURM_CONF="$NODE_DIR/slurm.conf"

cannot() {
    echo "no Slurm on this machine: $*" >&2
    exit 3
}

install_packages() {
    command -v slurmctld >/dev/null && command -v slurmd >/dev/null && command -v munged >/dev/null && return
    command -v apt-get >/dev/null || cannot "it has no apt-get; install slurm-wlm and munge by hand"
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        slurm-wlm munge; } >"$NODE_DIR/apt.log" 2>&1 \
        || cannot "apt-get install slurm-wlm munge failed: $(tail -n 1 "$NODE_DIR/apt.log")"
}

start_munge() {
    munge -n >/dev/null 2>&1 && return
    [ -s /etc/munge/munge.key ] || mungekey --create || cannot "mungekey --create failed"
    mkdir -p /run/munge /var/lib/munge /var/log/munge
    chown munge: /run/munge /var/lib/munge /var/log/munge /etc/munge /etc/munge/munge.key
    runuser -u munge -- munged >"$NODE_DIR/munged.log" 2>&1 || munged --force >"$NODE_DIR/munged.log" 2>&1 || true
    wait_for "munge -n" || cannot "munged does not answer: $(tail -n 1 "$NODE_DIR/munged.log")"
}

# The node claims 8 cores: Slurm then runs eight small jobs at a time, whatever this machine has.
# A job that queues again waits for cred_expire seconds.
# Control groups and systemd are not there in containers: processes are tracked in /proc.
write_configuration() {
    host=$(hostname -s)
    cat >"$SLURM_CONF" <<CONF
ClusterName=one_node
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmctldPort=16817
SlurmdPort=16818
AuthType=auth/munge
AuthInfo=cred_expire=5
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
ReturnToService=2
SchedulerParameters=batch_sched_delay=0,sched_interval=2
MinJobAge=3600
KillWait=20
JobRequeue=1
MpiDefault=none
StateSaveLocation=$NODE_DIR/state
SlurmdSpoolDir=$NODE_DIR/spool
SlurmctldPidFile=$NODE_DIR/slurmctld.pid
SlurmdPidFile=$NODE_DIR/slurmd.pid
SlurmctldLogFile=$NODE_DIR/slurmctld.log
SlurmdLogFile=$NODE_DIR/slurmd.log
JobCompType=jobcomp/none
AccountingStorageType=accounting_storage/none
NodeName=$host NodeAddr=127.0.0.1 CPUs=8 RealMemory=8000 State=UNKNOWN
PartitionName=main Nodes=$host Default=YES MaxTime=INFINITE State=UP
CONF
}

wait_for() {
    for _ in $(seq 50); do
        sh -c "$1" >/dev/null 2>&1 && return
        sleep 0.2
    done
    return 1
}

start() {
    [ "$(id -u)" = 0 ] || cannot "the daemons need root"
    mkdir -p "$NODE_DIR/state" "$NODE_DIR/spool"
    install_packages
    start_munge
    if ! { [ -f "$SLURM_CONF" ] && sinfo --noheader >/dev/null 2>&1; }; then
        write_configuration
        slurmctld -c >"$NODE_DIR/start.log" 2>&1 || cannot "slurmctld ended: $(tail -n 1 "$NODE_DIR/start.log")"
        slurmd >>"$NODE_DIR/start.log" 2>&1 || cannot "slurmd ended: $(tail -n 1 "$NODE_DIR/start.log")"
    fi
    wait_for "sinfo --noheader --format %T | grep -qE 'idle|mixed|allocated'" \
        || cannot "the node is not ready: $(sinfo --noheader --format '%T %E' 2>&1 | head -n 1)"
    echo "export SLURM_CONF=$SLURM_CONF"
}

stop() {
    for daemon in slurmd slurmctld; do
        process=$(cat "$NODE_DIR/$daemon.pid" 2>/dev/null) || continue
        kill "$process" 2>/dev/null || continue
        wait_for "! kill -0 $process" || cannot "$daemon does not end"  # it writes its state until then
    done
    rm -rf "$NODE_DIR/state" "$NODE_DIR/spool" "$SLURM_CONF"
}

"${1:-start}"
