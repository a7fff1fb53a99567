#!/usr/bin/env bash
# Starts a real SLURM of one node, for the tests and to try launcher=slurm: as root, without systemd, all state in DIR.
#   scripts/one_node_slurm.sh up DIR [--accounting]   start it (about 3 s; with accounting, MariaDB, about 6 s)
#   scripts/one_node_slurm.sh node DIR                start its node again after the node was killed
#   scripts/one_node_slurm.sh down DIR                cancel its jobs and stop everything that `up` started
# Then: export SLURM_CONF=DIR/slurm.conf
# Debian 12: apt-get install -y --no-install-recommends slurmctld slurmd slurm-client munge [slurmdbd mariadb-server]
set -euo pipefail

usage() { sed -n 's/^#   //p' "$0" >&2; exit 2; }
[ $# -ge 2 ] || usage
mkdir -p "$2"
dir=$(cd "$2" && pwd)
host=$(hostname -s)
export SLURM_CONF=$dir/slurm.conf

wait_for() { for _ in $(seq 60); do "$@" >/dev/null 2>&1 && return; sleep 0.5; done; echo "timed out: $*" >&2; exit 1; }
free_ports() {
  python3 -c 'import socket
held = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
print(*(one.getsockname()[1] for one in held))'
}
is_idle() { sinfo -h -o %T | grep -q idle; }
is_up() { sinfo -h -o %T | grep -qE "^(idle|mixed|allocated)"; } # a job that waited for the node may start at once

write_config() {
  local memory cores ctld node dbd
  memory=$(awk '/MemTotal/ {print int($2 / 1024 * .7)}' /proc/meminfo)
  cores=$(getconf _NPROCESSORS_ONLN) # nproc would obey OMP_NUM_THREADS
  read -r ctld node dbd < <(free_ports)
  cat >"$dir/slurm.conf" <<CONF
ClusterName=onenode
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$ctld
SlurmdPort=$node
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$dir/munge/munge.socket,cred_expire=5
CredType=cred/munge
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd.pid
SlurmctldLogFile=$dir/log/slurmctld.log
SlurmdLogFile=$dir/log/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=1000
ReturnToService=2
SlurmdParameters=config_overrides
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
KillWait=10
NodeName=$host NodeAddr=127.0.0.1 CPUs=$((cores > 2 ? cores : 2)) RealMemory=$memory State=UNKNOWN
PartitionName=cpu Nodes=$host Default=YES MaxTime=INFINITE State=UP
CONF
  [ "$1" = --accounting ] || { echo "AccountingStorageType=accounting_storage/none" >>"$dir/slurm.conf"; return; }
  cat >>"$dir/slurm.conf" <<CONF
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort=$dbd
AccountingStoragePass=$dir/munge/munge.socket
CONF
  cat >"$dir/slurmdbd.conf" <<CONF
AuthType=auth/munge
AuthInfo=socket=$dir/munge/munge.socket,cred_expire=5
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort=$dbd
SlurmUser=root
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm_acct_db
LogFile=$dir/log/slurmdbd.log
PidFile=$dir/slurmdbd.pid
CONF
  chmod 600 "$dir/slurmdbd.conf"
}

start_munge() {
  head -c 1024 /dev/urandom >"$dir/munge/munge.key"
  chmod 400 "$dir/munge/munge.key"
  munged --key-file="$dir/munge/munge.key" --socket="$dir/munge/munge.socket" --pid-file="$dir/munge/munged.pid" \
    --log-file="$dir/munge/munged.log" --seed-file="$dir/munge/munged.seed" --num-threads=2 --force
}

start_accounting() {
  export MYSQL_UNIX_PORT=$dir/run/my.sock
  chown mysql "$dir/db" "$dir/run"
  mariadb-install-db --user=mysql --datadir="$dir/db" --skip-test-db >/dev/null 2>&1
  mariadbd --no-defaults --user=mysql --datadir="$dir/db" --socket="$dir/run/my.sock" --skip-networking \
    --pid-file="$dir/run/my.pid" --innodb-buffer-pool-size=64M --innodb-lock-wait-timeout=900 \
    --log-error="$dir/log/mariadb.log" </dev/null >/dev/null 2>&1 &
  wait_for mariadb-admin --no-defaults -S "$dir/run/my.sock" ping
  mariadb --no-defaults -uroot -S "$dir/run/my.sock" -e "create database slurm_acct_db;
    create user slurm@localhost identified by 'slurm'; grant all on slurm_acct_db.* to slurm@localhost"
  slurmdbd
  wait_for sacctmgr -n list cluster
  sacctmgr -i add cluster onenode >/dev/null
}

case $1 in
up)
  mkdir "$dir/state" "$dir/spool" "$dir/log" "$dir/munge" "$dir/db" "$dir/run"
  chmod 755 "$dir" "$dir/munge"
  write_config "${3-}"
  start_munge
  [ "${3-}" != --accounting ] || start_accounting
  slurmctld -f "$SLURM_CONF"
  slurmd -f "$SLURM_CONF"
  wait_for is_idle
  ;;
node)
  slurmd -f "$SLURM_CONF"
  wait_for is_up
  ;;
down)
  scancel --user="$(id -un)" 2>/dev/null || true # otherwise the jobs' processes would continue to train
  for _ in $(seq 30); do [ -n "$(squeue -h 2>/dev/null)" ] || break; sleep 0.5; done
  for file in slurmd.pid slurmctld.pid slurmdbd.pid munge/munged.pid run/my.pid; do
    [ ! -f "$dir/$file" ] || kill "$(cat "$dir/$file")" 2>/dev/null || true
    sleep 0.5
  done
  ;;
*) usage ;;
esac
