#!/usr/bin/env bash
# A private Postgres cluster: no TCP port, its own socket directory, thrown away without regret.
#
# As a library (source it): cluster_start, cluster_resume, cluster_stop, cluster_kill, ...
# As a command, for the Python scripts and by hand:
#
#     scripts/cluster.sh start  DIR [name=value ...]   makes the cluster if need be, starts it, prints `export PGHOST=...`
#     scripts/cluster.sh stop   DIR [fast|immediate]
#     scripts/cluster.sh kill   DIR                    SIGKILL to the postmaster and all its children
#     scripts/cluster.sh remove DIR                    stops it and deletes DIR
#     scripts/cluster.sh env    DIR                    the `export` lines of a running cluster
#     scripts/cluster.sh log    DIR                    the path of the server's log
#     scripts/cluster.sh clone  DIR FROM               a standby of the running cluster FROM, by pg_basebackup, not started
#     scripts/cluster.sh promote DIR                   makes a standby a primary
#     scripts/cluster.sh upgrade DIR FROM PG_CONFIG [name=value ...]  takes the stopped cluster FROM of another Postgres over, by pg_upgrade
#     scripts/cluster.sh readable DIR PATH             PATH, or the copy of it that the server can read
#
# DIR belongs to who runs this; DIR/cluster belongs to the server's user (scripts/common.sh) and holds data/, log and the
# socket. When that user cannot enter DIR, as below /root, or when DIR's path is too long for a Unix socket (107 bytes),
# all of this is made in a directory under /tmp instead, and DIR/elsewhere names that.
#
# Where this runs as root, the server's user is another, who could put links into DIR/cluster. So root writes nothing in
# there, and removes it only as a whole. What it has to keep it keeps in DIR, which only root can write.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

CLUSTER_PORT=5432 # only names the socket file

# Whether a directory is one that only its owner can write, and ours.
is_ours() { [ -d "$1" ] && [ ! -L "$1" ] && [ -O "$1" ] && [ -z "$(find "$1" -maxdepth 0 -perm /022)" ]; }

# The directory that takes DIR's place, or DIR itself; nothing if there is none yet.
cluster_home() {
    local home=$1
    [ -d "$1" ] || return 0
    is_ours "$1" || die "$1 belongs to another user, or others can write it" "it is no directory of a cluster of yours: name another one"
    if [ -e "$1/elsewhere" ]; then
        home=$(head -n 1 "$1/elsewhere")
        [[ $home =~ ^/tmp/leann-cluster\.[A-Za-z0-9]{6}$ ]] || die "$1/elsewhere does not name a directory of a cluster"
        # Cleared away with the rest of /tmp, perhaps.
        [ -d "$home" ] || return 0
        is_ours "$home" || die "$home, which $1/elsewhere names, belongs to another user"
    fi
    (cd "$home" && pwd)
}

# The directory that holds the cluster of DIR and belongs to the server's user; nothing if there is none yet.
cluster_base() {
    local home
    home=$(cluster_home "$1") || exit
    [ -z "$home" ] || [ ! -d "$home/cluster" ] || echo "$home/cluster"
}

cluster_running() {
    local base
    base=$(cluster_base "$1")
    [ -n "$base" ] && as_server "$PG_BIN/pg_ctl" -D "$base/data" status >/dev/null 2>&1
}

# Makes the directory for a new cluster and prints its path.
cluster_place() {
    local dir home
    mkdir -p "$1"
    [ -L "$1" ] || [ ! -O "$1" ] || chmod go-w "$1"
    dir=$(cluster_home "$1") || exit
    [ -n "$dir" ] || dir=$(cd "$1" && pwd)
    home=$dir
    if [ "${#dir}" -gt 80 ] || ! as_server test -x "$(dirname "$dir")"; then
        home=$(mktemp -d /tmp/leann-cluster.XXXXXX)
        rm -f "$dir/elsewhere"
        echo "$home" >"$dir/elsewhere"
        note "the server cannot use $dir (not enterable by user $(server_user), or too long for a socket): the cluster is in $home"
    fi
    chmod go+x "$home"
    mkdir -m 700 "$home/cluster"
    ! is_root || chown postgres "$home/cluster"
    echo "$home/cluster"
}

# cluster_init DIR [option of initdb ...]: a new cluster, not started, without settings of ours.
cluster_init() {
    local base
    base=$(cluster_place "$1")
    shift
    as_server "$PG_BIN/initdb" -D "$base/data" -U postgres -A trust -E UTF8 --locale=C.UTF-8 --no-sync --no-instructions "$@" >/dev/null
    as_server sh -c "echo \"include 'leann.conf'\" >> '$base/data/postgresql.conf'"
}

# cluster_configure BASE [name=value ...]: exactly these settings, from the next start on.
cluster_configure() {
    local base=$1 setting
    shift
    {
        echo "listen_addresses = ''"
        echo "port = $CLUSTER_PORT"
        echo "unix_socket_directories = '$base'"
        echo "unix_socket_permissions = 0700"
        for setting in "$@"; do
            printf "%s = '%s'\n" "${setting%%=*}" "$(printf %s "${setting#*=}" | sed "s/'/''/g")"
        done
    } | as_server sh -c "cat > '$base/data/leann.conf'"
}

# cluster_start DIR [name=value ...]: the settings are those of this start alone.
cluster_start() {
    local dir=$1 base
    shift
    need_postgres
    as_server true 2>/dev/null || die "there is no user 'postgres' to run the server as" "'make deps' installs Debian's package, which makes it"
    [ -n "$(cluster_base "$dir")" ] || cluster_init "$dir"
    base=$(cluster_base "$dir")
    cluster_running "$dir" && cluster_stop "$dir"
    cluster_configure "$base" "$@"
    cluster_resume "$dir"
}

# Starts an existing cluster with the settings of its last start.
cluster_resume() {
    local base
    base=$(cluster_base "$1")
    as_server "$PG_BIN/pg_ctl" -D "$base/data" -l "$base/log" -w -t 120 start >/dev/null 2>&1 || {
        as_server tail -n 20 "$base/log" >&2
        die "the private cluster in $base does not start" "its log: $base/log"
    }
    cluster_env "$1"
}

# Where clients find the cluster, for this shell and for `eval`.
cluster_env() {
    PGHOST=$(cluster_base "$1") PGPORT=$CLUSTER_PORT PGUSER=postgres PGDATABASE=${PGDATABASE:-postgres}
    export PGHOST PGPORT PGUSER PGDATABASE
}

cluster_log() { echo "$(cluster_base "$1")/log"; }

cluster_stop() {
    cluster_running "$1" || return 0
    as_server "$PG_BIN/pg_ctl" -D "$(cluster_base "$1")/data" -m "${2:-fast}" -w -t 60 stop >/dev/null
}

# The children of a process, from /proc (procps may be missing).
children_of() { awk -v parent="$1" '/^Pid:/ { pid = $2 } /^PPid:/ && $2 == parent { print pid }' /proc/[0-9]*/status 2>/dev/null || true; }

# The way a power cut looks to Postgres: every process gone at once, nothing flushed, the lock file left behind.
cluster_kill() {
    local base postmaster children pid tries=0
    base=$(cluster_base "$1")
    postmaster=$(as_server head -n 1 "$base/data/postmaster.pid")
    as_server sh -c "kill -STOP $postmaster" # so that it starts no child while they are counted
    children=$(children_of "$postmaster")
    as_server sh -c "kill -KILL $postmaster ${children//$'\n'/ }" 2>/dev/null || true
    for pid in $postmaster $children; do
        while [ -d "/proc/$pid" ] && [ $((tries += 1)) -lt 500 ]; do sleep 0.01; done
    done
    # In a container whose first process collects no dead children the postmaster stays a zombie, and Postgres would take
    # its lock file for a living server's.
    [ ! -d "/proc/$postmaster" ] || as_server rm -f "$base/data/postmaster.pid"
}

cluster_remove() {
    local home
    home=$(cluster_home "$1")
    cluster_stop "$1" immediate || true
    # Links in it are removed and not followed.
    [ -z "$home" ] || rm -rf "$home"
    rm -rf "$1"
}

# cluster_temporary [name=value ...]: a cluster for one script, removed when the script ends; if the script fails, the end
# of the server's log is shown first. Only for scripts that set no EXIT trap of their own.
cluster_temporary() {
    need_postgres
    CLUSTER_TEMPORARY=$(mktemp -d /tmp/leann-test.XXXXXX)
    trap 'cluster_end $?' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    cluster_start "$CLUSTER_TEMPORARY" fsync=off "$@"
}

cluster_end() {
    if [ "$1" -ne 0 ]; then
        echo "--- end of the server's log:" >&2
        as_server tail -n 30 "$(cluster_log "$CLUSTER_TEMPORARY")" >&2 || true
    fi
    cluster_remove "$CLUSTER_TEMPORARY"
}

# cluster_clone DIR FROM: a base backup of a running cluster that follows it once started.
cluster_clone() {
    local base
    base=$(cluster_place "$1")
    as_server "$PG_BIN/pg_basebackup" -h "$(cluster_base "$2")" -p "$CLUSTER_PORT" -U postgres -D "$base/data" \
        --write-recovery-conf --checkpoint=fast --no-sync
}

cluster_promote() {
    as_server "$PG_BIN/pg_ctl" -D "$(cluster_base "$1")/data" -w -t 60 promote >/dev/null
}

# cluster_upgrade DIR FROM PG_CONFIG [name=value ...]: a new cluster of this Postgres, with these settings, that takes over the
# stopped cluster FROM, which belongs to the Postgres of PG_CONFIG.
cluster_upgrade() {
    local dir=$1 base from pg_config=$3 options=()
    from=$(cluster_base "$2")
    shift 3
    # The checksums of both must agree; from 18 on they are on unless told otherwise.
    if [ "$PG_MAJOR" -ge 18 ] && as_server "$("$pg_config" --bindir)/pg_controldata" -D "$from/data" | grep -qE '^Data page checksum version: +0$'; then
        options=(--no-data-checksums)
    fi
    cluster_init "$dir" "${options[@]}"
    base=$(cluster_base "$dir")
    cluster_configure "$base" "$@"
    as_server sh -c "cd '$base' && exec '$PG_BIN/pg_upgrade' -U postgres -b '$("$pg_config" --bindir)' -B '$PG_BIN' \
        -d '$from/data' -D '$base/data'" >"$dir/upgrade.log" 2>&1 || {
        cat "$dir/upgrade.log" >&2
        as_server sh -c "cat '$base'/data/pg_upgrade_output.d/*/log/*.log" >&2
        die "pg_upgrade from $("$pg_config" --version) to $PG_MAJOR failed"
    }
}

# A copy of PATH that the server can read, or PATH itself where it can already.
cluster_readable() {
    local copy
    if as_server test -r "$2" -a -x "$2"; then
        echo "$2"
    else
        copy=$(cluster_home "$1")/readable-$(basename "$2")
        rm -rf "$copy"
        cp -rL "$2" "$copy"
        chmod -R a+rX "$copy"
        echo "$copy"
    fi
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then
    command=${1:-}
    dir=${2:-}
    [ -n "$dir" ] || { sed -n '2,24p' "$0" | sed -E 's/^# ?//'; exit 2; }
    shift 2
    need_postgres
    case $command in
        start) cluster_start "$dir" "$@" ;;
        env) cluster_running "$dir" || die "no server runs in $dir"; cluster_env "$dir" ;;
        stop) cluster_stop "$dir" "$@" ;;
        kill) cluster_kill "$dir" ;;
        remove) cluster_remove "$dir" ;;
        log) cluster_log "$dir" ;;
        readable) cluster_readable "$dir" "$1" ;;
        clone) cluster_clone "$dir" "$1" ;;
        promote) cluster_promote "$dir" ;;
        upgrade) cluster_upgrade "$dir" "$@" ;;
        *) die "unknown command: $command" ;;
    esac
    case $command in
        start | env) for name in PGHOST PGPORT PGUSER PGDATABASE; do printf 'export %s=%q\n' "$name" "${!name}"; done ;;
    esac
fi
