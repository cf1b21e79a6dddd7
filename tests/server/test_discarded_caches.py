"""Every kind of statement while the server throws its caches away whenever it may, so that whoever keeps a
pointer into them too long reads overwritten memory. Only a server built with assertions can do that (make
test-assert)."""

import pytest

from support.checks import check
from support.index import faults, same_rows
from support.texts import SQL_SENTENCE

STATEMENTS = (
    "CREATE INDEX docs_embedding ON docs USING leann (embedding_of(body))",
    "INSERT INTO docs SELECT n, sentence(n) FROM generate_series(1000, 1300) n",
    "SELECT id FROM docs ORDER BY embedding_of(body) <-> 'ab cd' LIMIT 5",
    "SELECT count(*) FROM (SELECT id FROM docs ORDER BY embedding_of(body) <-> NULL::text LIMIT 1000) AS r",
    "SELECT * FROM leann.last_scan()",
    "SELECT * FROM leann.check('docs_embedding')",
    "SELECT * FROM leann.index_info('docs_embedding')",
    "SELECT recall FROM leann.recall('docs_embedding', array['ab cd'], 5)",
    "UPDATE docs SET body = body || ' x' WHERE id < 50",
    "DELETE FROM docs WHERE id % 2 = 0",
    "VACUUM docs",
    "REINDEX INDEX docs_embedding",
    "REINDEX INDEX CONCURRENTLY docs_embedding",
    "BEGIN; DECLARE c CURSOR FOR SELECT id FROM docs ORDER BY embedding_of(body) <-> 'ab cd'; FETCH 3 FROM c;"
    "FETCH 30 FROM c; COMMIT",
    "SELECT * FROM leann.models",
)


@pytest.mark.cluster("autovacuum=off")
def test_discarded_caches(session):
    if session.run("SHOW debug_assertions") != ["on"]:
        pytest.skip("the server has no assertions")
    session.run(SQL_SENTENCE)
    session.run(
        "CREATE TABLE docs (id int PRIMARY KEY, body text);"
        "INSERT INTO docs SELECT n, sentence(n) FROM generate_series(1, 400) n;"
        "SET enable_seqscan = off; SET debug_discard_caches = 1"
    )
    for statement in STATEMENTS:
        session.run(statement)
    session.run("RESET debug_discard_caches")
    check("leann.check is clean", not faults(session))
    same_rows("the index holds exactly the table's rows", session)
