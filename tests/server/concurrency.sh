#!/usr/bin/env bash
# Inserts, updates, deletes, searches and vacuums from many clients at once (pgbench), then: no error, leann.check clean,
# and a full ordered scan of the index gives exactly the visible rows. LEANN_SOAK=1: for minutes, and more clients.
. "$(dirname "${BASH_SOURCE[0]}")/../../scripts/cluster.sh"

SECONDS_EACH=${SECONDS_EACH:-$([ -n "${LEANN_SOAK:-}" ] && echo 600 || echo 20)}
CLIENTS=${CLIENTS:-$([ -n "${LEANN_SOAK:-}" ] && echo 12 || echo 6)}
status=0

# ok NAME ACTUAL EXPECTED
expect() {
    if [ "$2" = "$3" ]; then echo "ok $1"; else echo "not ok $1"; echo "    got: $2"; echo "    wanted: $3"; status=1; fi
}

sql() { "$PG_BIN/psql" -X -q -At -v ON_ERROR_STOP=1 "$@"; }

cluster_temporary
models=$(cluster_readable "$CLUSTER_TEMPORARY" "$ROOT/tests/models")
cluster_start "$CLUSTER_TEMPORARY" fsync=off "leann.model_dir=$models" leann.default_model=tiny-hash leann.threads=1 \
    autovacuum_naptime=1s autovacuum_vacuum_threshold=50 autovacuum_vacuum_scale_factor=0.01 shared_buffers=64MB
scripts=$(mktemp -d /tmp/leann-pgbench.XXXXXX)
trap 'code=$?; rm -rf "$scripts"; cluster_end $code' EXIT

sql <<'SQL'
CREATE EXTENSION leann;
CREATE FUNCTION sentence(seed bigint) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT string_agg(substr(md5(seed::text || ' ' || n), 1, 2), ' ' ORDER BY n) FROM generate_series(1, 8) n
$$;
-- A search whose answer can be judged in any state of the table: each row once, none before a nearer one.
CREATE FUNCTION search(seed bigint) RETURNS void LANGUAGE plpgsql STABLE SET enable_seqscan = off AS $$
DECLARE
    seen bigint[] := '{}';
    before float8 := -1;
    found record;
BEGIN
    FOR found IN SELECT id, ctid, embedding_of(body) <-> sentence(seed) AS distance
                 FROM docs ORDER BY embedding_of(body) <-> sentence(seed) LIMIT 20 LOOP
        IF found.id = ANY (seen) THEN
            RAISE EXCEPTION 'row % (now at %) was returned twice', found.id, found.ctid;
        END IF;
        IF found.distance < before - 1e-5 THEN
            RAISE EXCEPTION 'row % at distance % came after one at %', found.id, found.distance, before;
        END IF;
        seen := seen || found.id;
        before := found.distance;
    END LOOP;
END $$;
CREATE TABLE docs (id bigserial PRIMARY KEY, body text, note int DEFAULT 0);
INSERT INTO docs (body) SELECT sentence(n) FROM generate_series(1, 3000) n;
CREATE INDEX docs_embedding ON docs USING leann (embedding_of(body));
SQL

cat >"$scripts/insert" <<'SQL'
\set seed random(1, 1000000)
INSERT INTO docs (body) SELECT sentence(:seed + n) FROM generate_series(1, 10) n;
SQL
cat >"$scripts/update" <<'SQL'
\set id random(1, 5000)
\set seed random(1, 1000000)
UPDATE docs SET body = sentence(:seed) WHERE id = :id;
UPDATE docs SET note = note + 1 WHERE id = :id;
SQL
cat >"$scripts/delete" <<'SQL'
\set id random(1, 5000)
DELETE FROM docs WHERE id BETWEEN :id AND :id + 3;
SQL
cat >"$scripts/search" <<'SQL'
\set seed random(1, 1000000)
SELECT search(:seed);
SQL
cat >"$scripts/rollback" <<'SQL'
\set seed random(1, 1000000)
BEGIN;
INSERT INTO docs (body) SELECT sentence(:seed + n) FROM generate_series(1, 5) n;
SAVEPOINT s;
INSERT INTO docs (body) VALUES (sentence(:seed));
ROLLBACK TO s;
ROLLBACK;
SQL
cat >"$scripts/vacuum" <<'SQL'
VACUUM docs;
\sleep 300 ms
SQL

# The first pass is all of it; the second adds rebuilds of the index under the writers.
mix() {
    "$PG_BIN/pgbench" -n -c "$CLIENTS" -j 2 -T "$SECONDS_EACH" -P 5 "$@" \
        -f "$scripts/insert@3" -f "$scripts/update@3" -f "$scripts/delete@2" -f "$scripts/search@4" -f "$scripts/rollback@1" 2>&1
}
vacuum_meanwhile() { "$PG_BIN/pgbench" -n -c 1 -T "$SECONDS_EACH" -f "$scripts/vacuum" >"$scripts/vacuum.log" 2>&1; }

judge() {
    grep -E 'aborted|ERROR|FATAL|PANIC' "$scripts/mix.log" "$scripts/vacuum.log" | head -n 20 || true
    expect "$1: no client failed" "$(grep -cE 'aborted|ERROR|FATAL|PANIC' "$scripts/mix.log" "$scripts/vacuum.log" | tr '\n' ' ' | sed 's|[^ ]*:||g')" "0 0 "
    expect "$1: leann.check is clean" "$(sql -c "SELECT c FROM leann.check('docs_embedding') c")" ""
    sql -c "SET enable_indexscan = off" -c "CREATE TABLE in_heap AS SELECT ctid AS t FROM docs WHERE body IS NOT NULL"
    sql -c "SET enable_seqscan = off" -c "SET leann.iterative_scan = relaxed_order" -c "CREATE TABLE in_index AS SELECT ctid AS t FROM docs ORDER BY embedding_of(body) <-> 'any' LIMIT 10000000"
    expect "$1: index and table hold the same rows, each once" \
        "$(sql -c "SELECT (SELECT count(*) FROM in_heap) = (SELECT count(*) FROM in_index),
                          (SELECT count(*) FROM in_index) = (SELECT count(DISTINCT t) FROM in_index),
                          (SELECT count(*) FROM (TABLE in_heap EXCEPT TABLE in_index) x)")" "t|t|0"
    sql -c "DROP TABLE in_heap, in_index"
}

vacuum_meanwhile &
vacuum=$!
mix >"$scripts/mix.log" || status=1
wait "$vacuum" || status=1
grep -E 'tps|transactions actually' "$scripts/mix.log"
judge "mixed load"

SECONDS_EACH=$((SECONDS_EACH / 2))
vacuum_meanwhile &
vacuum=$!
mix >"$scripts/mix.log" &
load=$!
round=0
while [ $((round += 1)) -le 3 ] || { [ -n "${LEANN_SOAK:-}" ] && kill -0 "$load" 2>/dev/null; }; do
    # A concurrent build may lose a deadlock against VACUUM or another waiter; anything else is a fault.
    sql -c "REINDEX INDEX CONCURRENTLY docs_embedding" 2>"$scripts/reindex.err" || grep -q 'deadlock detected' "$scripts/reindex.err" || { cat "$scripts/reindex.err"; status=1; }
done
wait "$load" || status=1
wait "$vacuum" || status=1
sql <<<"SELECT format('DROP INDEX %I', relname) FROM pg_class WHERE relname ~ '_ccnew|_ccold' \\gexec"
judge "with REINDEX CONCURRENTLY"

expect "the server's log shows no crash and no leak" "$(grep -cE "PANIC|terminated by signal|leak|still referenced|TRAP|problem in alloc|write past" "$(cluster_log "$CLUSTER_TEMPORARY")" || true)" "0"
exit $status
