"""Whoever runs the server sees what searches do: index by index over all sessions, where the library is
preloaded; slow ones in the log; and in EXPLAIN, from Postgres 18 on."""

import json
import time

import pytest

from support.checks import check

SETUP = (
    "CREATE TABLE docs (id int PRIMARY KEY, kind int, body text);"
    "INSERT INTO docs SELECT n, n % 5, 'text of item ' || n FROM generate_series(1, 1000) n;"
    "CREATE INDEX docs_embedding ON docs USING leann (embedding_of(body));"
    "CREATE TABLE events (id int, body text) PARTITION BY RANGE (id);"
    "CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM (0) TO (200);"
    "CREATE TABLE events_2 PARTITION OF events FOR VALUES FROM (200) TO (400);"
    "INSERT INTO events SELECT n, 'event ' || n FROM generate_series(0, 399) n;"
    "CREATE INDEX events_embedding ON events USING leann (embedding_of(body));"
    "ANALYZE"
)
SEARCH = "SELECT id FROM docs WHERE kind = 3 ORDER BY embedding_of(body) <-> 'item 7' LIMIT 3"
OF_PARTITIONS = "SELECT id FROM events ORDER BY embedding_of(body) <-> 'event 7' LIMIT 3"
COUNTS = (
    "SELECT searches, recomputes + cache_hits FROM leann.stat_indexes WHERE indexrelname = 'docs_embedding'"
)


@pytest.mark.cluster("shared_preload_libraries=leann", "leann.shared_cache_size=0")
def test_counts_of_all_sessions(cluster, session):
    session.run(SETUP)
    session.run("SET enable_seqscan = off")
    session.run(SEARCH)
    with cluster.session() as other:
        other.run("SET enable_seqscan = off")
        other.run(SEARCH)
        searches, rows = session.row(COUNTS)
        check("searches of both sessions are counted", searches == "2", searches)
        check("and what they read", int(rows) >= 6, rows)
        check("either sees them", other.row(COUNTS) == session.row(COUNTS))
    session.run("SELECT pg_stat_reset()")
    time.sleep(1.1)  # until the statistics of the next transaction are new
    check("pg_stat_reset() resets them", session.row(COUNTS) == ["0", "0"], str(session.row(COUNTS)))
    session.run(SEARCH)
    check("and they go on", session.row(COUNTS)[0] == "1")
    session.run("DROP INDEX docs_embedding")
    check("a dropped index is gone", session.rows(COUNTS) == [])


def test_slow_searches_are_logged(cluster, session):
    session.run(SETUP)
    session.run("SET enable_seqscan = off; SET leann.log_min_duration = '1h'")
    session.run(SEARCH)
    check("a quick one is not", "scan of index" not in cluster.tail(200))
    session.run("SET leann.log_min_duration = 0")
    session.run(SEARCH)
    session.run(OF_PARTITIONS)
    log = cluster.tail(200)
    check("a slow one is, with its index", 'ms  scan of index "docs_embedding"' in log, log)
    check("and what it did", "Rows wanted first: 3. Recomputes: " in log, log)
    check("so is one over partitions", 'scan of index "events_1_embedding_of_idx" and 1 more' in log, log)


def test_explain(session):
    session.run(SETUP)
    session.run("SET enable_seqscan = off")

    def explained(query, node_type):
        plan = json.loads(session.value(f"EXPLAIN (ANALYZE, FORMAT JSON) {query}"))[0]["Plan"]
        while plan["Node Type"] != node_type:
            plan = plan["Plans"][0]
        return plan

    if int(session.value("SHOW server_version_num")) < 180000:
        check("there is no hook before 18", "Recomputes" not in explained(SEARCH, "Index Scan"))
        return
    node = explained(SEARCH, "Index Scan")
    check("a node shows its group", node["Group Size"] == 3, str(node))
    read = node["Recomputes"] + node["Cache Hits"]
    check("and what it read", read >= 3 and node["Node Pages"] > 0, str(node))
    check("and its times", node["Model Time"] >= 0 and node["Walk Time"] > 0, str(node))
    bounded = SEARCH.replace("kind = 3", "embedding_of(body) <-> 'item 7' < 0.25")
    check("and a bound", explained(bounded, "Index Scan")["Distance Bound"] == 0.25)
    node = explained(OF_PARTITIONS, "Merge Append")
    check("a group is shown at its Merge Append", node["Recomputes"] + node["Cache Hits"] >= 3, str(node))
    check("and not at its scans", "Recomputes" not in node["Plans"][0], str(node))
    near = "SELECT id FROM docs WHERE kind = n ORDER BY embedding_of(body) <-> 'item 7' LIMIT 2"
    joined = f"SELECT FROM generate_series(1, 3) AS n, LATERAL ({near}) AS near"
    node = explained(joined, "Nested Loop")["Plans"][1]["Plans"][0]
    check("rescans add up", node["Recomputes"] + node["Cache Hits"] >= 6, str(node))
    check("without ANALYZE nothing is shown", "Group Size" not in session.plan(SEARCH))
