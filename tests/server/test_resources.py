"""Memory that stays flat over many scans and inserts, a build that keeps to its limits and leaves nothing
behind when it fails, and texts that are toasted, rewritten and vacuumed while they are read."""

import os
import re
import time

import pytest

from pg import SqlError
from support.checks import SOAK, check, check_refused
from support.index import faults, same_rows
from support.processes import anonymous
from support.texts import SQL_SENTENCE
from support.threads import run_together

MEGABYTE = 1 << 20


def contexts(session):
    """Bytes of all memory contexts of the session's backend."""
    return int(session.value("SELECT sum(total_bytes) FROM pg_backend_memory_contexts"))


def flat(name, session, statement, rounds=4, allowed=2 * MEGABYTE):
    """The statement, run again and again, does not make the backend grow."""
    session.run(statement, 600)  # loads the model, fills the caches
    session.run(statement, 600)
    before = (anonymous(session.pid), contexts(session))
    for _ in range(10 * rounds if SOAK else rounds):
        session.run(statement, 600)
    after = (anonymous(session.pid), contexts(session))
    check(
        f"{name}: private memory stays", after[0] - before[0] < allowed, f"{before[0]} bytes, then {after[0]}"
    )
    check(
        f"{name}: memory contexts stay",
        after[1] - before[1] < MEGABYTE // 4,
        f"{before[1]} bytes, then {after[1]}",
    )


@pytest.mark.cluster("autovacuum=off", "leann.cache_size=64kB", "jit=off")
def test_memory_stays_flat(cluster, session):
    # The cost of a disabled sequential scan makes the server compile expressions, and what LLVM keeps of that
    # grows.
    session.run("CREATE TABLE docs (id serial PRIMARY KEY, body text);" + SQL_SENTENCE)
    session.run(
        "INSERT INTO docs (body) SELECT sentence(n) FROM generate_series(1, 3000) n;"
        "CREATE INDEX docs_embedding ON docs USING leann (embedding_of(body)); SET enable_seqscan = off",
        600,
    )
    # A scan, its rescans, and no end of the statement in between.
    lateral = (
        "DO $$ BEGIN PERFORM count(*) FROM generate_series(1, 1000) n CROSS JOIN LATERAL (SELECT id FROM docs"
        " ORDER BY embedding_of(body) <-> n::text LIMIT 3) near; END $$"
    )
    flat("1,000 rescans", session, lateral, rounds=2)
    rescans_cost_nothing(session)
    cursors = (
        "DO $$ DECLARE c refcursor; r record; BEGIN FOR n IN 1..300 LOOP OPEN c FOR SELECT id FROM docs"
        " ORDER BY embedding_of(body) <-> n::text; FETCH c INTO r; CLOSE c; END LOOP; END $$"
    )
    flat("300 cursors left early", session, cursors, rounds=3)
    flat(
        "inserts",
        session,
        "INSERT INTO docs (body)"
        " SELECT sentence(random()::int * 1000000 + n) FROM generate_series(1, 2000) n",
    )
    failing = (
        "DO $$ BEGIN FOR n IN 1..500 LOOP BEGIN PERFORM id, 1 / (id - id) FROM docs"
        " ORDER BY embedding_of(body) <-> n::text LIMIT 1; EXCEPTION WHEN division_by_zero THEN END;"
        "END LOOP; END $$"
    )
    flat("500 scans that fail", session, failing, rounds=2)
    flat("vacuums", session, "VACUUM docs", rounds=10)
    check("after all that leann.check is clean", not faults(session))
    log = cluster.log()
    leaks = re.findall(r"^.*(?:leak|still referenced|WARNING).*$", log, flags=re.M)
    check("the server's log speaks of no leak", not leaks, "; ".join(leaks[:5]))


def rescans_cost_nothing(session):
    """What one statement allocates does not grow with the rows that it searches for, also where the query is
    long."""
    session.run(
        "SET enable_memoize = off; CREATE FUNCTION used() RETURNS bigint LANGUAGE sql"
        " AS 'SELECT sum(used_bytes)::bigint FROM pg_backend_memory_contexts'"
    )
    session.run(
        "CREATE TABLE parts (id int, body text) PARTITION BY LIST ((id % 2));"
        "CREATE TABLE parts_0 PARTITION OF parts FOR VALUES IN (0);"
        "CREATE TABLE parts_1 PARTITION OF parts FOR VALUES IN (1);"
        "INSERT INTO parts SELECT id, body FROM docs LIMIT 200;"
        "CREATE INDEX ON parts USING leann (embedding_of(body)); ANALYZE parts"
    )
    narrow = "WHERE id % 7 = n % 7 AND embedding_of(body) <-> (n % 5)::text < n % 3"
    for name, query, where in (
        ("short", "(n % 5)::text", ""),
        ("long", "repeat((n % 5)::text || ' word', 800)", ""),
        ("filtered", "(n % 5)::text", narrow),
        ("partitioned", "(n % 5)::text", ""),
    ):
        table = "parts" if name == "partitioned" else "docs"
        used = []
        for count in (100, 100, 20_000):
            # Looked at while the statement runs, after its last rescan.
            used.append(
                int(
                    session.value(
                        f"SELECT max(u) FROM (SELECT CASE WHEN n = {count} THEN used() END AS u"
                        f" FROM (SELECT generate_series(1, {count}) AS n) AS numbers CROSS JOIN LATERAL"
                        f" (SELECT id FROM {table} {where} ORDER BY embedding_of(body) <-> {query}"
                        " LIMIT 1) near OFFSET 0) AS rows",
                        600,
                    )
                )
            )
        check(
            f"20,000 rescans with a {name} query allocate no more than 100",
            used[2] - used[1] < MEGABYTE // 4,
            str(used),
        )


@pytest.mark.cluster("autovacuum=off", "log_temp_files=0", "maintenance_work_mem=1MB", "max_wal_size=4GB")
def test_builds_keep_to_their_limits(cluster, session):
    session.run(SQL_SENTENCE)
    session.run(
        "CREATE TABLE docs (id int PRIMARY KEY, body text);"
        "INSERT INTO docs SELECT n, sentence(n) FROM generate_series(1, 30000) n",
        600,
    )
    session.run("SET temp_file_limit = '2MB'")
    build = "CREATE INDEX docs_embedding ON docs USING leann (embedding_of(body))"
    check_refused("temp_file_limit ends a build", session, build, "53400")
    data = cluster.data
    # The folder of the models' copies stays: those are for the next session.
    left = [
        name
        for name in (os.listdir(f"{data}/base/pgsql_tmp") if os.path.isdir(f"{data}/base/pgsql_tmp") else [])
        if name != "pgsql_tmp_leann"
    ]
    check("no temporary file is left", not left, str(left))
    check("no index is left", session.value("SELECT to_regclass('docs_embedding') IS NULL") == "t")
    size = sum(
        os.path.getsize(os.path.join(folder, name))
        for folder, _, names in os.walk(f"{data}/base")
        for name in names
    )
    session.run("RESET temp_file_limit")
    session.run("CREATE INDEX docs_embedding ON docs USING leann (embedding_of(body))", 900)
    check("then a build works", not faults(session))
    # What the failed build had written is gone: the new one adds its own size, and no more.
    session.run("CHECKPOINT")
    grown = (
        sum(
            os.path.getsize(os.path.join(folder, name))
            for folder, _, names in os.walk(f"{data}/base")
            for name in names
        )
        - size
    )
    index = int(session.value("SELECT pg_total_relation_size('docs_embedding')"))
    check(
        "the failed build left no file",
        grown <= index + 4 * MEGABYTE,
        f"{grown} bytes more for an index of {index}",
    )
    check(
        "vectors beyond maintenance_work_mem went to a temporary file",
        "temporary file: path" in cluster.log(),
    )
    session.run("SET maintenance_work_mem = '256MB'")
    session.run("REINDEX INDEX docs_embedding", 900)
    check("and within it stay in memory, with the same result", not faults(session))
    same_rows("the index holds exactly the table's rows", session)


@pytest.mark.cluster(
    "autovacuum_naptime=1s", "autovacuum_vacuum_threshold=20", "autovacuum_vacuum_scale_factor=0.0"
)
def test_toasted_texts(cluster):
    """Long texts, out of line, are rewritten and their old versions vacuumed away while scans and builds read
    them."""
    with cluster.session() as session:
        session.run(SQL_SENTENCE)
        session.run(
            "CREATE FUNCTION long(seed bigint) RETURNS text LANGUAGE sql IMMUTABLE AS $$"
            " SELECT string_agg(sentence(seed * 1000 + n), ' ') FROM generate_series(1, 300) n $$;"
            "CREATE TABLE docs (id int PRIMARY KEY, body text);"
            "ALTER TABLE docs ALTER body SET STORAGE external;"
            "INSERT INTO docs SELECT n, long(n) FROM generate_series(1, 400) n;"
            "CREATE INDEX docs_embedding ON docs USING leann (embedding_of(body))",
            600,
        )
        check(
            "the texts are out of line",
            int(
                session.value(
                    "SELECT pg_relation_size(reltoastrelid) FROM pg_class WHERE oid = 'docs'::regclass"
                )
            )
            > 2 * MEGABYTE,
        )
    errors, until = [], time.monotonic() + 15

    def repeat(name, statement):
        with cluster.session(name=name) as own:
            own.run("SET enable_seqscan = off; SET leann.cache_size = '64kB'")
            number = 0
            while time.monotonic() < until:
                number += 1
                try:
                    own.run(statement.format(n=number), 120)
                except SqlError as error:
                    if error.sqlstate != "40P01":
                        errors.append(f"{name}: {error}")
                    own.run("ROLLBACK")

    errors += run_together(
        (repeat, "writer", "UPDATE docs SET body = long({n} * 7 + id) WHERE id % 20 = {n} % 20"),
        (repeat, "vacuum", "VACUUM docs"),
        (
            repeat,
            "reader",
            "SELECT count(*) FROM (SELECT id FROM docs ORDER BY embedding_of(body) <-> '{n} ab cd' LIMIT 30)"
            " AS near",
        ),
        (
            repeat,
            "holder",
            "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1; SELECT pg_sleep(0.3);"
            "SELECT count(*) FROM (SELECT id FROM docs ORDER BY embedding_of(body) <-> '{n} ef' LIMIT 100)"
            " AS near; COMMIT",
        ),
        (repeat, "builder", "REINDEX INDEX CONCURRENTLY docs_embedding"),
    )
    check("no toasted text was missing to any reader or build", not errors, "; ".join(errors[:3]))
    with cluster.session() as session:
        for row in session.rows("SELECT relname FROM pg_class WHERE relname ~ '_ccnew|_ccold'"):
            session.run(f'DROP INDEX "{row[0]}"')
        check("afterwards leann.check is clean", not faults(session))
        same_rows("afterwards the index holds exactly the table's rows", session)


@pytest.mark.cluster("autovacuum=off", "leann.threads=2", "shared_buffers=128MB", "jit=off")
def test_builds_give_back(session):
    """What a build needed, its session does not keep."""
    session.run(
        "SELECT setseed(0.5);"
        "CREATE TABLE noise AS SELECT array_agg((random() - 0.5)::real) AS v FROM generate_series(1, 20000);"
        "CREATE TABLE ready AS"
        " SELECT v[1 + n % 9973 : 32 + n % 9973] || v[10001 + n % 9949 : 10032 + n % 9949] AS v"
        " FROM noise, generate_series(1, 120000) n; SET maintenance_work_mem = '256MB';"
        "CREATE INDEX small ON ready USING leann ((v::leann.embedding)) WHERE v[1] > 0.49",
        600,
    )
    before = anonymous(session.pid)
    session.run("CREATE INDEX large ON ready USING leann ((v::leann.embedding)); DROP INDEX large", 600)
    kept = (anonymous(session.pid) - before) / MEGABYTE
    check(
        "a build of 120,000 vectors leaves a session with little more than it had", kept < 8, f"{kept:.1f} MB"
    )
