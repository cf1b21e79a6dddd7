#!/usr/bin/env bash
# The long forms of the tests that load a server (LEANN_SOAK=1): 50 crashes, ten minutes of each mix of
# clients, memory over long inserts, 50 backends, builds of 200,000 rows. About an hour.  scripts/soak.sh
# [WORD ...] runs some of them.
. "$(dirname "$0")/common.sh"

export LEANN_SOAK=1
[ $# -gt 0 ] || set -- server/crash server/concurrency server/rebuilds server/resources server/builds \
    server/workload server/backends
status=0
for word in "$@"; do
    "$ROOT/tests/run" "$word" || status=1
done
exit $status
