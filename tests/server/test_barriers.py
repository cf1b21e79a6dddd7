"""A backend that builds serves the interrupts that other backends wait for, in every phase, and goes on
building: the barrier of DROP DATABASE, the request for memory statistics, the look whether its client is
still there."""

import os
import time

import pytest

from support.checks import check, note
from support.index import faults
from support.texts import SQL_SENTENCE

LIMIT = 1.0  # seconds until an interrupt is served, on a busy machine
VECTORS = 150_000
TEXTS = 20_000
DATABASES = 16

PHASE = "SELECT coalesce((SELECT phase FROM pg_stat_progress_create_index WHERE pid = {}), 'none')"


def logged(cluster, pid):
    return cluster.log().count(f"logging memory contexts of PID {pid}")


def watch(cluster, builder, sql, phases):
    """Runs a build and meanwhile disturbs it; checks how long each disturbance took, by phase."""
    with cluster.session(name="other") as other:
        databases = [f"other{number}" for number in range(DATABASES)]
        for database in databases:
            other.run(f"CREATE DATABASE {database} STRATEGY file_copy")
        begin = time.monotonic()
        builder.send(sql)
        longest, asked, turn = {}, 0, 0
        while not builder.answered(0.05):
            phase = other.value(PHASE.format(builder.pid)).replace("building index: ", "")
            start = time.monotonic()
            turn += 1
            if databases and turn % 2:
                what = "DROP DATABASE"
                other.run(f"DROP DATABASE {databases.pop()}")
            else:
                what = "memory contexts"
                other.run(f"SELECT pg_log_backend_memory_contexts({builder.pid})")
                asked += 1
                while (
                    logged(cluster, builder.pid) < asked
                    and time.monotonic() < start + 2 * LIMIT
                    and not builder.answered(0.01)
                ):
                    pass
            took = time.monotonic() - start
            longest[phase, what] = max(took, longest.get((phase, what), 0.0))
        builder.finish()
        note(
            f"the build took {time.monotonic() - begin:.1f} s; longest waits: "
            + ", ".join(f"{phase}: {what} {took:.2f} s" for (phase, what), took in sorted(longest.items())),
        )
        for (phase, what), took in longest.items():
            check(f"{what} while {phase}: within {LIMIT} s", took <= LIMIT, f"{took:.2f} s")
        seen = {phase for phase, _ in longest}
        for phase in phases:
            check(f"there was something to wait for while {phase}", phase in seen, str(seen))
        for database in databases:
            other.run(f"DROP DATABASE {database}")


def vectors(session):
    session.run(
        "CREATE TABLE noise AS SELECT array_agg((random() - 0.5)::real) AS v FROM generate_series(1, 20000);"
        "CREATE TABLE ready (id int, v real[]);"
        "INSERT INTO ready"
        " SELECT n, v[1 + n % 9973 : 32 + n % 9973] || v[10001 + n % 9949 : 10032 + n % 9949]"
        f" FROM noise, generate_series(1, {VECTORS}) n",
        600,
    )


@pytest.mark.cluster("autovacuum=off", "max_wal_size=4GB")
def test_barriers(cluster, session):
    session.run("SELECT setseed(0.5)")
    vectors(session)
    watch(
        cluster,
        session,
        "CREATE INDEX ready_embedding ON ready USING leann ((v::leann.embedding))",
        ["laying out pages"],
    )
    check("the index is sound", not faults(session, "ready_embedding"))
    session.run(SQL_SENTENCE)
    session.run(
        "CREATE TABLE docs (id int, body text);"
        f"INSERT INTO docs SELECT n, sentence(n) FROM generate_series(1, {TEXTS}) n",
        600,
    )
    watch(
        cluster,
        session,
        "CREATE INDEX docs_embedding ON docs USING leann (embedding_of(body))",
        ["embedding rows"],
    )
    check("the index over texts is sound", not faults(session))


@pytest.mark.cluster("autovacuum=off", "max_wal_size=4GB")
def test_lost_client(cluster, session):
    """A build looks for its client as often as asked for, goes on while it is there, and ends when it is
    gone."""
    session.run("SELECT setseed(0.5)")
    vectors(session)
    sql = (
        "SET client_connection_check_interval = '100ms';"
        "CREATE INDEX {} ON ready USING leann ((v::leann.embedding))"
    )
    session.run(sql.format("first"), 600)
    check("a build goes on while its client is there", not faults(session, "first"))
    victim = cluster.session(name="victim")
    victim.send(sql.format("second"))
    deadline = time.monotonic() + 60
    while (
        session.value(PHASE.format(victim.pid)) != "building index: laying out pages"
        and time.monotonic() < deadline
    ):
        time.sleep(0.02)
    victim.drop()
    begin = time.monotonic()
    alive = f"SELECT count(*) FROM pg_stat_activity WHERE pid = {victim.pid}"
    while session.value(alive) != "0" and time.monotonic() < begin + 60:
        time.sleep(0.02)
    took = time.monotonic() - begin
    check("a build whose client is gone ends soon", took <= 1 + LIMIT, f"{took:.2f} s")
    check("the server is up", session.value("SELECT 1") == "1" and os.path.exists(f"/proc/{session.pid}"))
    victim.close()
