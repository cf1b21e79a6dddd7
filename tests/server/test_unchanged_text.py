"""UPDATEs that leave the text alone embed nothing: of many rows, in several sessions at once, while pages
split and VACUUM moves and removes nodes."""

import concurrent.futures

import pytest

from support.checks import check
from support.index import faults
from support.texts import SQL_SENTENCE

ROWS = 12_000
SETUP = f"""
CREATE TABLE docs (id int PRIMARY KEY, views int DEFAULT 0, body text) WITH (autovacuum_enabled = off);
INSERT INTO docs SELECT n, 0, sentence(n) FROM generate_series(1, {ROWS}) n;
CREATE INDEX docs_views ON docs (views);
CREATE INDEX docs_embedding ON docs USING leann (embedding_of(body));
"""
EMBEDDED = "SELECT lookups - hits FROM leann.cache WHERE scope = 'session'"


def update(cluster, part, parts, rounds):
    """Updates every parts-th row several times. Returns the number of texts that this embedded."""
    with cluster.session() as session:
        before = int(session.value(EMBEDDED))
        for _ in range(rounds):
            session.run(f"UPDATE docs SET views = views + 1 WHERE id % {parts} = {part}")
        return int(session.value(EMBEDDED)) - before


def insert(cluster, count):
    with cluster.session() as session:
        for number in range(count):
            session.run(
                f"INSERT INTO docs SELECT {ROWS + number} * 100 + n, 0, sentence({number} * 100 + n)"
                " FROM generate_series(1, 100) n"
            )


def vacuum(cluster, times):
    with cluster.session() as session:
        for _ in range(times):
            session.run("VACUUM docs")


def test_many_sessions(cluster):
    with cluster.session() as session:
        session.run(SQL_SENTENCE)
        session.run(SETUP)
        blocks = int(session.value("SELECT pg_relation_size('docs_embedding') / 8192"))
    with concurrent.futures.ThreadPoolExecutor() as pool:
        updates = [pool.submit(update, cluster, part, 3, 4) for part in range(3)]
        others = [pool.submit(insert, cluster, 10), pool.submit(vacuum, cluster, 6)]
        embedded = sum(future.result() for future in updates)
        [future.result() for future in others]
    with cluster.session() as session:
        check("a few at most of 48,000 updated rows are embedded again", embedded <= 48, embedded)
        check("the index is sound", faults(session, "docs_embedding") == [])
        session.run("SET enable_seqscan = off")
        counts = session.row(
            "SELECT count(*), count(DISTINCT id) FROM"
            " (SELECT id FROM docs ORDER BY embedding_of(body) <-> NULL::text OFFSET 0) AS rows"
        )
        expected = [str(ROWS + 1_000)] * 2
        check("the index holds every row once", list(counts) == expected, counts)
        session.run("VACUUM docs")
        after = int(session.value("SELECT pg_relation_size('docs_embedding') / 8192"))
        check("the index grows as with inserts", after <= 8 * blocks, (blocks, after))


@pytest.mark.parametrize("fillfactor", [50, 100])
def test_one_row_at_a_time(session, fillfactor):
    session.run(SQL_SENTENCE)
    session.run(f"CREATE TABLE notes (id int PRIMARY KEY, n int, body text) WITH (fillfactor = {fillfactor})")
    session.run("INSERT INTO notes SELECT n, 0, sentence(n) FROM generate_series(1, 2000) n")
    session.run("CREATE INDEX ON notes (n)")
    session.run("CREATE INDEX notes_embedding ON notes USING leann (embedding_of(body))")
    before = session.value(EMBEDDED)
    for number in range(1, 500):
        session.run(f"UPDATE notes SET n = n + {number} WHERE id = {number % 100 + 1}")
        if number % 100 == 0:
            session.run("VACUUM notes")
    check("no text is embedded", session.value(EMBEDDED) == before)
    check("the index is sound", faults(session, "notes_embedding") == [])
