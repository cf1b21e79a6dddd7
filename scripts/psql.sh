#!/usr/bin/env bash
# psql on the database of `make demo`, whose server is started again if it was stopped.
. "$(dirname "$0")/cluster.sh"

need_postgres
[ -n "$(cluster_base "$ROOT/.demo")" ] || die "there is no demo yet" "run 'make demo' first"
cluster_running "$ROOT/.demo" || die "the demo's server is not running" "run 'make demo', or: pg_ctl -D $(cluster_base "$ROOT/.demo")/data start"
PGDATABASE=demo
cluster_env "$ROOT/.demo"
exec "$PG_BIN/psql" "$@"
