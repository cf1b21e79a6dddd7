#!/usr/bin/env bash
# psql on the database of `make demo`, whose server is started again if it was stopped.
. "$(dirname "$0")/cluster.sh"

need_postgres
[ -n "$(cluster_base "$ROOT/.demo")" ] || die "there is no demo yet" "run 'make demo' first"
PGDATABASE=demo
if cluster_running "$ROOT/.demo"; then cluster_env "$ROOT/.demo"; else cluster_resume "$ROOT/.demo"; fi
exec "$PG_BIN/psql" "$@"
