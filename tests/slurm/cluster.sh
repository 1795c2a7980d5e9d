#!/usr/bin/env bash
# A real SLURM on one Debian host: munged, MariaDB (socket only), slurmdbd, slurmctld and two slurmd on loopback.
#   cluster.sh up DIR      install what is missing (apt, root), start, wait until both nodes are idle
#   cluster.sh down DIR    end every daemon by its pid file
# DIR holds keys, configuration, state and logs; every user must be able to enter it. One line says what is wrong.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]:-.}")" && pwd)
ACTION=${1:?up or down}
ROOT=${2:?a folder for keys, state and logs}
NODES="n1 n2"
FILES="slurm.conf slurmdbd.conf cgroup.conf"
CGROUPS=${CGROUPS:-/sys/fs/cgroup} # a folder that is not there: memory is enforced without cgroups

die() { echo "slurm cannot be started: $*" >&2; exit 1; }

alive() { # alive PIDFILE NAME: prints the pid when that process lives
    local pid
    [ -s "$1" ] && pid=$(tr -dc 0-9 < "$1") || return 1
    [ "$(cat "/proc/$pid/comm" 2> /dev/null)" = "$2" ] && echo "$pid"
}

wait_for() { # wait_for SECONDS WHAT COMMAND...
    local tries=$(($1 * 5)) what=$2
    shift 2
    until "$@" > /dev/null 2>&1; do
        tries=$((tries - 1))
        [ $tries -gt 0 ] || die "$what did not come up; logs are in $ROOT/log"
        sleep 0.2
    done
}

install_missing() {
    local missing=() pair
    for pair in munge:munged slurm-client:sbatch slurmctld:slurmctld slurmd:slurmd slurmdbd:slurmdbd \
        mariadb-server:mariadbd; do
        command -v "${pair#*:}" > /dev/null || missing+=("${pair%%:*}")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    command -v apt-get > /dev/null || die "${missing[*]} not found, and there is no apt-get to install them"
    # the packages' own services, which listen everywhere, stay off
    local policy=/usr/sbin/policy-rc.d
    if [ ! -e $policy ]; then
        printf '#!/bin/sh\nexit 101\n' > $policy && chmod +x $policy
        trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    fi
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        "${missing[@]}"; } > "$ROOT/log/apt.log" 2>&1 || die "apt-get install ${missing[*]}: $(tail -1 "$ROOT/log/apt.log")"
}

check_host() { # slurmctld binds to the address of the host's name, which must be loopback
    HOST=$(hostname -s)
    case "$(getent ahostsv4 "$HOST" | awk 'NR==1{print $1}')" in
        127.*) ;;
        *) echo "127.0.0.1 $HOST" >> /etc/hosts ;;
    esac
    case "$(getent ahostsv4 "$HOST" | awk 'NR==1{print $1}')" in 127.*) ;; *) die "$HOST is not 127.*" ;; esac
}

choose_enforcement() { # of memory: cgroups kill at once, accounting kills what a sample every 2 s shows
    local probe=$CGROUPS/memory/slurm_probe_$$
    if [ -e $CGROUPS/memory/memory.limit_in_bytes ] && [ -w $CGROUPS/freezer ] && mkdir "$probe" 2> /dev/null; then
        rmdir "$probe"
        PROCTRACK=proctrack/cgroup TASK=task/cgroup OVER_MEMORY=
    else
        PROCTRACK=proctrack/linuxproc TASK=task/none OVER_MEMORY=JobAcctGatherParams=OverMemoryKill
    fi
}

configure() {
    local file
    for file in $FILES; do
        sed -e "s#@ROOT@#$ROOT#g" -e "s#@HOST@#$HOST#g" -e "s#@PROCTRACK@#$PROCTRACK#" -e "s#@TASK@#$TASK#" \
            -e "s#@OVER_MEMORY@#$OVER_MEMORY#" "$HERE/$file" > "$ROOT/etc/$file"
        # where every command looks: the executor's job step takes SLURM_CONF out of the environment
        [ ! -e /etc/slurm/$file ] || [ -L /etc/slurm/$file ] || die "/etc/slurm/$file belongs to another SLURM"
        mkdir -p /etc/slurm && ln -sfn "$ROOT/etc/$file" /etc/slurm/$file
    done
    chmod 600 "$ROOT/etc/slurmdbd.conf"
}

start_munge() {
    ! alive "$ROOT/munge/munged.pid" munged > /dev/null || return 0
    (umask 077 && head -c 1024 /dev/urandom > "$ROOT/munge/munge.key")
    chown -R munge:munge "$ROOT/munge"
    runuser -u munge -- munged --key-file="$ROOT/munge/munge.key" --socket="$ROOT/munge/munge.sock" \
        --pid-file="$ROOT/munge/munged.pid" --log-file="$ROOT/munge/munged.log" \
        --seed-file="$ROOT/munge/munged.seed" || die "munged: every user must be able to enter $ROOT"
    wait_for 10 munged munge -S "$ROOT/munge/munge.sock" -n
}

start_accounting() {
    local socket=$ROOT/mysql/socket
    if ! alive "$ROOT/pid/mariadbd.pid" mariadbd > /dev/null; then
        chown mysql:mysql "$ROOT/mysql"
        [ -d "$ROOT/mysql/data" ] || mariadb-install-db --no-defaults --user=mysql --datadir="$ROOT/mysql/data" \
            --skip-test-db > "$ROOT/log/mariadb.log" 2>&1 || die "mariadb-install-db: $(tail -1 "$ROOT/log/mariadb.log")"
        setsid mariadbd --no-defaults --user=mysql --datadir="$ROOT/mysql/data" --socket="$socket" --skip-networking \
            --skip-log-bin --innodb-lock-wait-timeout=900 < /dev/null >> "$ROOT/log/mariadb.log" 2>&1 &
        echo $! > "$ROOT/pid/mariadbd.pid"
        wait_for 30 mariadbd mariadb-admin --no-defaults --socket="$socket" ping
        mariadb --no-defaults --socket="$socket" -e "CREATE DATABASE IF NOT EXISTS slurm_acct_db;
            CREATE USER IF NOT EXISTS slurm@localhost IDENTIFIED BY 'slurm'; GRANT ALL ON slurm_acct_db.* TO slurm@localhost;"
    fi
    alive "$ROOT/pid/slurmdbd.pid" slurmdbd > /dev/null || MYSQL_UNIX_PORT=$socket slurmdbd || die slurmdbd
    wait_for 20 slurmdbd sacctmgr -n list cluster
    # sacctmgr fails when nothing is new; whether all three are there is asked afterwards
    sacctmgr -i add cluster test > /dev/null || true
    sacctmgr -i add account test Description=test Organization=test > /dev/null || true
    sacctmgr -i add user root account=test defaultaccount=test > /dev/null || true
    [ -n "$(sacctmgr -n list associations cluster=test account=test user=root)" ] || die "sacctmgr: no account test"
}

node_is_up() { case "$(sinfo -h -n "$1" -o %T | head -1)" in idle | mixed | allocated) ;; *) return 1 ;; esac; }

up() {
    [ "$(id -u)" = 0 ] || die "this needs root"
    mkdir -p "$ROOT"/{etc,munge,pid,log,mysql,state/ctld,state/n1,state/n2}
    install_missing
    ! pgrep -x slurmctld > /dev/null || alive "$ROOT/pid/slurmctld.pid" slurmctld > /dev/null || die "another one runs"
    check_host
    choose_enforcement
    configure
    start_munge
    start_accounting
    alive "$ROOT/pid/slurmctld.pid" slurmctld > /dev/null || slurmctld || die slurmctld
    wait_for 20 slurmctld scontrol ping
    local node
    for node in $NODES; do alive "$ROOT/pid/slurmd-$node.pid" slurmd > /dev/null || slurmd -N "$node" || die "slurmd $node"; done
    for node in $NODES; do wait_for 30 "node $node" node_is_up "$node"; done
    echo "$(sinfo -V) with $PROCTRACK, $TASK${OVER_MEMORY:+, $OVER_MEMORY}; nodes: $(sinfo -h -N -o '%N=%T' | sort -u | xargs)"
}

end() { # end PIDFILE NAME: SIGTERM, after 20 s SIGKILL
    local pid tries=100
    if pid=$(alive "$1" "$2"); then
        kill "$pid"
        while alive "$1" "$2" > /dev/null && [ $tries -gt 0 ]; do sleep 0.2 && tries=$((tries - 1)); done
        ! alive "$1" "$2" > /dev/null || kill -KILL "$pid"
    fi
    rm -f "$1"
}

down() {
    local file jobs
    if alive "$ROOT/pid/slurmctld.pid" slurmctld > /dev/null; then # no step may outlive its slurmd
        jobs=$(timeout 10 squeue -h -o %A | xargs)
        # shellcheck disable=SC2086
        [ -z "$jobs" ] || { timeout 10 scancel $jobs; sleep 5; }
    fi
    for file in "$ROOT"/pid/slurmd-*.pid; do end "$file" slurmd; done
    end "$ROOT/pid/slurmctld.pid" slurmctld
    end "$ROOT/pid/slurmdbd.pid" slurmdbd
    end "$ROOT/pid/mariadbd.pid" mariadbd
    end "$ROOT/munge/munged.pid" munged
    find $CGROUPS/*/slurm* -depth -type d -exec rmdir {} \; 2> /dev/null || true # what slurmd left empty; a step that still ends keeps its own
    for file in $FILES; do [ "$(readlink /etc/slurm/$file)" != "$ROOT/etc/$file" ] || rm /etc/slurm/$file; done
}

"$ACTION"
