"""A backend for which the system has no more memory: whatever statement meets the limit fails with an error
of class 53, the server stays up, and the same session's next statement works. Limits of many sizes, so that
allocations fail in many places."""

import re

import pytest

from pg import SqlError
from support.checks import SOAK, check, note
from support.index import faults
from support.processes import address_space
from support.texts import SQL_SENTENCE

MEGABYTE = 1 << 20
ROWS = 20_000
# So many that what a pass over them remembers is larger than a reserve gives.
MANY = 100_000
TEXTS = 2000
# Beyond what a session takes: one that has done nothing yet, and one that has loaded the model.
COLD = [2, 6, 10, 14, 20, 28] if SOAK else [4, 12, 24]
WARM = (
    [0, 1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 40, 48, 64, 80, 96, 128]
    if SOAK
    else [0, 2, 5, 8, 12, 18, 26, 40, 64]
)

STATEMENTS = {
    "build of vectors": "SET maintenance_work_mem = '1GB'; CREATE INDEX again ON ready USING leann"
    " ((v::leann.embedding))",
    "build in little memory": "SET maintenance_work_mem = '1MB'; CREATE INDEX again ON ready USING leann"
    " ((v::leann.embedding))",
    "build that stores": "CREATE INDEX again ON ready USING leann ((v::leann.embedding))"
    " WITH (store = float16)",
    "build over texts": "CREATE INDEX again ON docs USING leann (embedding_of(body))",
    "search": "SELECT count(*) FROM (SELECT id FROM docs ORDER BY embedding_of(body) <-> 'some words'"
    " LIMIT 10) AS near",
    "search for all": "SELECT count(*) FROM (SELECT id FROM ready"
    " ORDER BY v::leann.embedding <-> 'some words' LIMIT 50000) AS near",
    "insert": "INSERT INTO docs SELECT n, sentence(n) FROM generate_series(100001, 100300) n",
    "long texts": "SELECT count(*) FROM leann.embed_all(ARRAY(SELECT repeat(sentence(n) || ' ', 100)"
    " FROM generate_series(1, 300) n)) AS vector",
    "vacuum": "VACUUM ready",
    "check": "SELECT count(*) FROM leann.check('many_embedding')",
    "rows in any order": "SELECT count(*) FROM (SELECT id FROM many"
    " ORDER BY v::leann.embedding <-> (SELECT NULL::text) LIMIT 200000) AS near",
    "one very long text": "SELECT array_length(leann.embed(repeat('word ', 2000000)), 1)",
}


def attempt(cluster, name, sql):
    """Runs a statement; 'done', or the SQLSTATE. And whether the session goes on."""
    with cluster.session(name=name) as session:
        session.run("SET enable_seqscan = off; SET enable_sort = off")
        try:
            session.run(sql, 600)
            outcome = "done"
        except SqlError as error:
            outcome = str(error.sqlstate)
            if not outcome.startswith("53"):
                outcome = f"{outcome}: {error}"
        alive = session.value("SELECT 'alive'") == "alive"
        session.run("DROP INDEX IF EXISTS again")
        return outcome, alive


def load(session):
    session.run(SQL_SENTENCE)
    session.run(
        "SELECT setseed(0.5);"
        "CREATE TABLE noise AS SELECT array_agg((random() - 0.5)::real) AS v FROM generate_series(1, 20000);"
        "CREATE TABLE ready (id int, v real[]);"
        "INSERT INTO ready"
        " SELECT n, v[1 + n % 9973 : 32 + n % 9973] || v[10001 + n % 9949 : 10032 + n % 9949]"
        f" FROM noise, generate_series(1, {ROWS}) n;"
        f"CREATE TABLE many AS SELECT n AS id, v FROM ready, generate_series(1, {MANY}, {ROWS}) n;"
        "CREATE INDEX many_embedding ON many USING leann ((v::leann.embedding)) WITH (sketch_bytes = 8);"
        "CREATE TABLE docs (id int, body text);"
        f"INSERT INTO docs SELECT n, sentence(n) FROM generate_series(1, {TEXTS}) n;"
        "CREATE INDEX docs_embedding ON docs USING leann (embedding_of(body));"
        "CREATE INDEX ready_embedding ON ready USING leann ((v::leann.embedding))",
        900,
    )


@pytest.mark.cluster(
    "autovacuum=off", "max_wal_size=4GB", "shared_buffers=16MB", "jit=off", "leann.threads=2"
)
def test_limits(cluster):
    with cluster.session() as session:
        load(session)
    with cluster.session() as session:
        session.run("SET leann.ef_search = 100; LOAD 'leann'")
        cold = address_space(session.pid)
        session.run("SELECT leann.embed('the model is loaded')")
        warm = address_space(session.pid)
    outcomes = {name: [] for name in STATEMENTS}
    for limit in [cold + room * MEGABYTE for room in COLD] + [warm + room * MEGABYTE for room in WARM]:
        cluster.start(address_space=limit)
        for name, sql in STATEMENTS.items():
            try:
                outcome, alive = attempt(cluster, name, sql)
            except SqlError as error:  # of a statement of the server's own
                outcome, alive = str(error.sqlstate), True
            except Exception as error:  # a lost connection above all
                outcome, alive = f"lost: {str(error)[:300]}", False
            outcomes[name].append(outcome)
            if not alive or not (outcome == "done" or outcome.startswith("53")):
                check(
                    f"{name}, {(limit - warm) / MEGABYTE:.0f} MB more than a session with its model",
                    False,
                    outcome,
                )
    for name, results in outcomes.items():
        note(f"{name}: {sum(result != 'done' for result in results)} of {len(results)} failed")
        check(
            f"{name}: works, or fails with an error of class 53, and the session goes on",
            all(result == "done" or re.fullmatch("53...", result) for result in results),
        )
        check(f"{name}: works where there is memory enough", results[-1] == "done", results[-1])
    check("limits were met", any(result != "done" for results in outcomes.values() for result in results))
    log = cluster.log().splitlines()
    lost = [
        line
        for line in log
        if re.search(
            r"memory allocation of|terminate called|terminated by signal|server process|panicked at", line
        )
    ]
    check("no process was lost", not lost, "\n    ".join(lost[:20]))
    cluster.start()
    with cluster.session() as session:
        check(
            "afterwards the indexes are sound", not faults(session) and not faults(session, "ready_embedding")
        )
