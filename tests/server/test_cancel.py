"""A build, an insert, a scan and leann.recall in the midst of the real model are cancelled within about a
second, and the server is none the worse for it."""

import time

import pytest

from pg import SqlError
from support.checks import check
from support.index import faults
from support.texts import passages

LIMIT = 1.5  # seconds from the request to the error, on a busy machine
STARTED = 1.5  # seconds after which the model is at work

BUILD = "CREATE INDEX docs_embedding ON docs USING leann (embedding_of(title || ' ' || body))"
EXACT = "SELECT id FROM docs ORDER BY embedding_of(title || ' ' || body) <-> 'vaccines' OFFSET 100000"
INDEXED = (
    "SELECT count(*) FROM (SELECT id FROM docs"
    " ORDER BY embedding_of(title || ' ' || body) <-> 'how do vaccines work'"
    " LIMIT 100000) AS near"
)
EMBED = (
    "SELECT count(*) FROM docs, leann.embed_all(ARRAY[title || ' ' || body, body, title || body]) AS vector"
)


def load(session):
    session.run("CREATE TABLE docs (id text, title text, body text)")
    session.copy_in("docs", passages(), escaped=True)


def stopped(cluster, name, sql, how):
    """Runs `sql` and stops it; checks the error and how long it took."""
    session = cluster.session(name="victim")
    with cluster.session(name="stopper") as other:
        session.run("SELECT leann.clear_cache(); SET enable_seqscan = off")
        timeout = how == "statement_timeout"
        if timeout:
            session.run(f"SET statement_timeout = '{STARTED}s'")
        sent = time.monotonic()
        session.send(sql)
        answered = session.answered(STARTED)
        begin = time.monotonic()
        if not timeout:
            other.run(f"SELECT {how}({session.pid})")
        state = None
        try:
            session.finish(120)
        except SqlError as error:
            state = error.sqlstate
        end = time.monotonic()
        seconds = end - begin
        # A timeout may have struck before this looks; what was at work until then has lasted that long.
        busy = end - sent >= STARTED if timeout else not answered
        expected = "57P01" if how == "pg_terminate_backend" else "57014"
        check(f"{name}, {how}: was at work", busy)
        check(f"{name}, {how}: SQLSTATE {expected}", state == expected, f"it is {state}")
        check(f"{name}, {how}: within {LIMIT} s", seconds <= LIMIT, f"it took {seconds:.2f} s")
        if how == "pg_terminate_backend":
            deadline = time.monotonic() + LIMIT
            while (
                other.value(f"SELECT count(*) FROM pg_stat_activity WHERE pid = {session.pid}") != "0"
                and time.monotonic() < deadline
            ):
                time.sleep(0.02)
            check(
                f"{name}, {how}: the backend is gone",
                other.value(f"SELECT count(*) FROM pg_stat_activity WHERE pid = {session.pid}") == "0",
            )
        else:
            # The same session goes on, its model too.
            session.run("SET statement_timeout = 0")
            check(
                f"{name}, {how}: the session works on",
                int(session.value("SELECT cardinality(leann.embed('a text after the cancel'))")) > 0,
            )
    session.close()


@pytest.mark.cluster(model="real")
def test_cancellation(cluster):
    with cluster.session() as session:
        load(session)
        session.run("ANALYZE docs")
    for how in ("statement_timeout", "pg_cancel_backend", "pg_terminate_backend"):
        stopped(cluster, "build", BUILD, how)
        stopped(cluster, "sequential scan", EXACT, how)
        stopped(cluster, "leann.embed", EMBED, how)
    with cluster.session() as session:
        check(
            "no half-built index is left",
            session.value("SELECT count(*) FROM pg_class WHERE relname = 'docs_embedding'") == "0",
        )
        session.run("DELETE FROM docs WHERE id NOT IN (SELECT id FROM docs LIMIT 300)")
        session.run(BUILD, 600)
    for how in ("statement_timeout", "pg_cancel_backend", "pg_terminate_backend"):
        stopped(cluster, "index scan", INDEXED, how)
        stopped(cluster, "leann.recall", "SELECT * FROM leann.recall('docs_embedding')", how)
        stopped(
            cluster, "insert", "INSERT INTO docs SELECT id || 'x', title || ' again', body FROM docs", how
        )
        stopped(cluster, "reindex", "REINDEX INDEX docs_embedding", how)
    with cluster.session() as session:
        check("afterwards leann.check is clean", not faults(session))
        session.run("SET enable_seqscan = off")
        check(
            "afterwards a search works",
            len(
                session.rows(
                    "SELECT id FROM docs"
                    " ORDER BY embedding_of(title || ' ' || body) <-> 'how do vaccines work' LIMIT 10"
                )
            )
            == 10,
        )
        session.run("VACUUM docs")
        check("afterwards VACUUM leaves a sound index", not faults(session))
    log = cluster.log()
    trouble = [
        line
        for line in log.splitlines()
        if "PANIC" in line
        or "was terminated by signal" in line
        or "refcount leak" in line
        or "buffer leak" in line
    ]
    check("the server's log shows no crash and no leak", not trouble, "\n".join(trouble[:5]))
