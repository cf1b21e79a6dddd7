"""Indexes that cannot be read, which is no damage: being built, left unfinished, another session's temporary
one, unlogged on a standby, partitioned, just dropped. A query over all leann indexes says of each what it is;
what needs the pages says why it cannot have them. Searches and inserts go on as with any index that the
server does not use."""

import time

import pytest

from support.checks import check, check_refused
from support.clusters import standby_of, tiny_cluster
from support.texts import SQL_SENTENCE

ALL = """
SELECT c.relname, i.nodes, coalesce(i.advice, '')
FROM pg_class c JOIN pg_am a ON a.oid = c.relam AND a.amname = 'leann'
CROSS JOIN LATERAL leann.index_info(c.oid) i ORDER BY 1
"""


def all_indexes(session):
    return {row[0]: (row[1], row[2]) for row in session.rows(ALL)}


def says(name, found, index, *words):
    nodes, advice = found.get(index, (None, "no row"))
    check(
        f"index_info of {name} says what it is",
        all(word in advice for word in words) and nodes in (None, "", "\\N"),
        f"{nodes}, {advice}",
    )


def refused(session, name, index, *words):
    for sql in (
        f"SELECT * FROM leann.check('{index}')",
        f"SELECT * FROM leann.recall('{index}', ARRAY['a word'], 3)",
    ):
        check_refused(
            f"{name}: {sql.split('(')[0].split('.')[1]} says why", session, sql, "55000", "HINT", *words
        )


@pytest.mark.cluster("autovacuum=off")
def test_on_a_primary(cluster, session):
    with cluster.session(name="other") as other:
        session.run(
            SQL_SENTENCE + ";CREATE TABLE docs (id int PRIMARY KEY, body text);"
            "INSERT INTO docs SELECT n, sentence(n) FROM generate_series(1, 300) n;"
            "CREATE INDEX sound ON docs USING leann (embedding_of(body));"
            "CREATE TABLE parts (id int, body text) PARTITION BY RANGE (id);"
            "CREATE TABLE part_1 PARTITION OF parts FOR VALUES FROM (0) TO (10);"
            "CREATE INDEX whole ON parts USING leann (embedding_of(body))",
            600,
        )
        check_refused(
            "a build fails on purpose",
            session,
            "CREATE INDEX CONCURRENTLY unfinished ON docs"
            " USING leann (embedding_of(repeat(body, 1 / (300 - id))))",
            "22012",
        )
        other.run(
            "CREATE TEMP TABLE mine (body text); INSERT INTO mine VALUES ('a text');"
            "CREATE INDEX theirs ON mine USING leann (embedding_of(body))"
        )
        found = all_indexes(session)
        says(
            "an unfinished index", found, "unfinished", "left unfinished", "DROP INDEX unfinished", "REINDEX"
        )
        says("another session's index", found, "theirs", "temporary", "another session")
        says("a partitioned index", found, "whole", "partitions")
        check("index_info of a sound index has its counts", found["sound"][0] == "300", str(found["sound"]))
        check(
            "index_info of one's own temporary index has its counts", all_indexes(other)["theirs"][0] == "1"
        )
        refused(session, "unfinished", "unfinished", "left unfinished")
        refused(
            session, "another session's", "pg_temp_" + schema_number(session) + ".theirs", "another session"
        )
        refused(session, "partitioned", "whole", "partitions")
        check(
            "index_info of an index that is gone has no row",
            session.run("SELECT count(*) FROM leann.index_info(4000000000::oid::regclass)") == ["0"],
        )
        session.run("DROP INDEX unfinished; CREATE TABLE more AS SELECT * FROM docs")
        under_way(cluster, session, other)


def schema_number(session):
    return session.value(
        "SELECT replace(relnamespace::regnamespace::text, 'pg_temp_', '') FROM pg_class"
        " WHERE relname = 'theirs'"
    )


def under_way(cluster, session, other):
    """CREATE INDEX CONCURRENTLY waits for an old transaction; meanwhile the index is looked at, searched past
    and written to."""
    other.run(
        "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM docs;INSERT INTO more VALUES (0, 'held')"
    )

    builder = cluster.session(name="builder")
    builder.send("CREATE INDEX CONCURRENTLY slow ON more USING leann (embedding_of(body))")
    until = time.monotonic() + 60
    while (
        time.monotonic() < until
        and session.value("SELECT count(*) FROM pg_class WHERE relname = 'slow'") == "0"
    ):
        time.sleep(0.05)
    says(
        "an index that is being built",
        all_indexes(session),
        "slow",
        "not built yet",
        "pg_stat_progress_create_index",
    )
    refused(session, "being built", "slow", "not built yet")
    session.run("INSERT INTO more VALUES (1000, 'a text of now')")
    check(
        "a search does without it",
        session.run(
            "SET enable_seqscan = off; SELECT id FROM more ORDER BY embedding_of(body) <-> 'a text of now'"
            " LIMIT 1"
        )
        == ["1000"],
    )
    other.run("COMMIT")
    builder.finish(120)
    builder.close()
    check(
        "then it is built, with all rows",
        all_indexes(session)["slow"][0] == "302",
        str(all_indexes(session)["slow"]),
    )
    check("and sound", session.run("SELECT count(*) FROM leann.check('slow')") == ["0"])


def test_on_a_standby():
    with tiny_cluster("autovacuum=off") as primary:
        with primary.session() as session:
            session.run(
                "CREATE UNLOGGED TABLE passing (body text); INSERT INTO passing VALUES ('a text');"
                "CREATE INDEX passing_embedding ON passing USING leann (embedding_of(body));"
                "CREATE TABLE docs (body text); INSERT INTO docs VALUES ('a text');"
                "CREATE INDEX sound ON docs USING leann (embedding_of(body))"
            )
        with standby_of(primary) as standby, standby.session() as reader:
            found = all_indexes(reader)
            says(
                "an unlogged index on a standby", found, "passing_embedding", "unlogged", "standby", "primary"
            )
            check(
                "index_info of a sound index works on a standby",
                found["sound"][0] == "1",
                str(found["sound"]),
            )
            refused(reader, "unlogged on a standby", "passing_embedding", "unlogged")
