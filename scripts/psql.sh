#!/usr/bin/env bash
# psql on the database of `make demo`, whose server is started again if it was stopped.
. "$(dirname "$0")/common.sh"

need_postgres
[ -d "$ROOT/.demo" ] || die "there is no demo yet" "run 'make demo' first"
exports=$("$ROOT/scripts/cluster.py" env "$ROOT/.demo")
eval "$exports"
PGDATABASE=demo exec "$PG_BIN/psql" "$@"
