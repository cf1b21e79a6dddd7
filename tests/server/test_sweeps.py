"""Who reads a whole index leaves the server's buffers to others, and nobody reads it for nothing."""

import pytest

from support.checks import check
from support.texts import SQL_SENTENCE

SETUP = (
    SQL_SENTENCE
    + """;CREATE TABLE docs (id int PRIMARY KEY, body text);
INSERT INTO docs SELECT n, sentence(n) FROM generate_series(1, 6000) n;
CREATE INDEX docs_embedding ON docs USING leann (embedding_of(body)) WITH (sketch_bytes = 500);
VACUUM docs; CHECKPOINT"""
)
CACHED = (
    "SELECT count(*) FROM pg_buffercache WHERE relfilenode = pg_relation_filenode('docs_embedding')"
    " AND relforknumber = 0"
)
TOUCHED = """SELECT coalesce(sum(idx_blks_read + idx_blks_hit), 0) FROM pg_statio_user_indexes WHERE
    indexrelname = 'docs_embedding'"""


@pytest.mark.cluster("autovacuum=off", "shared_buffers=64MB")
def test_buffers_are_left_to_others(cluster):
    with cluster.session() as session:
        session.run(SETUP + ";CREATE EXTENSION pg_buffercache", 600)
        blocks = int(session.value("SELECT pg_relation_size('docs_embedding') / 8192"))
    for statement in (
        "SELECT * FROM leann.check('docs_embedding')",
        "SELECT nodes FROM leann.index_info('docs_embedding')",
        "DELETE FROM docs WHERE id % 50 = 0; VACUUM docs",
    ):
        cluster.stop()
        cluster.start()
        with cluster.session() as session:
            session.run(statement, 600)
            cached = int(session.value(CACHED))
            check(
                f"{statement.split()[0]} {statement.split('.')[-1].split('(')[0][:10]}: most of the index'"
                " pages stay out of the buffers",
                cached < blocks / 2,
                f"{cached} of {blocks}",
            )


@pytest.mark.cluster("autovacuum=off")
def test_nothing_is_read_for_nothing(session):
    session.run(SETUP, 600)

    def touched():
        session.run("SELECT pg_stat_force_next_flush()")
        return int(session.value(TOUCHED))

    before = touched()
    session.run("INSERT INTO docs SELECT n, NULL FROM generate_series(10001, 14000) n; VACUUM docs", 600)
    insert_only = touched() - before
    check(
        "a VACUUM that finds no dead row does not read the index", insert_only <= 10, f"{insert_only} blocks"
    )
    session.run("DELETE FROM docs WHERE id <= 3000; VACUUM docs", 600)
    check("one that finds some does", touched() - before > 50)
    free = int(session.value("SELECT free_pages FROM leann.index_info('docs_embedding')"))
    session.run("INSERT INTO docs SELECT n, sentence(n) FROM generate_series(20001, 23000) n", 600)
    left = int(session.value("SELECT free_pages FROM leann.index_info('docs_embedding')"))
    check(
        "pages that it freed are used again without another VACUUM",
        free > 20 and left < free / 2,
        f"{free}, then {left}",
    )
