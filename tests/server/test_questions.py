"""Questions stay where they belong: those that leann.recall asks, and those of searches with parameters, are
in no statistics of statements, even where nested statements are tracked."""

import pathlib

import pytest

from cluster import pg_config
from support.checks import check

pytestmark = [
    pytest.mark.skipif(
        not pathlib.Path(pg_config("--pkglibdir"), "pg_stat_statements.so").exists(),
        reason="this Postgres has no pg_stat_statements",
    ),
    pytest.mark.cluster("shared_preload_libraries=pg_stat_statements", "pg_stat_statements.track=all"),
]


def test_questions(session):
    session.run(
        "CREATE EXTENSION pg_stat_statements; CREATE TABLE docs (body text);"
        "INSERT INTO docs SELECT 'word ' || n FROM generate_series(1, 400) n;"
        "CREATE INDEX docs_emb ON docs USING leann (embedding_of(body))"
    )
    session.run("SELECT pg_stat_statements_reset()")
    session.run("PREPARE ask(text[]) AS SELECT avg(recall) FROM leann.recall('docs_emb', $1, 3)")
    session.run("EXECUTE ask(ARRAY['a secret question', 'a second secret', 'a third secret'])")
    session.run("PREPARE find(text) AS SELECT body FROM docs ORDER BY embedding_of(body) <-> $1 LIMIT 3;")
    session.run("EXECUTE find('a secret search')")
    seen = session.rows(
        "SELECT query, calls FROM pg_stat_statements WHERE query NOT ILIKE '%pg_stat_statements%'"
    )
    # EXECUTE is a statement of its own whose text shows its parameters on some versions: that is the client's
    # doing.
    nested = [row for row in seen if not row[0].upper().startswith("EXECUTE")]
    check(
        "no statement of leann.recall shows a question",
        not any("secret" in row[0] for row in nested),
        str(nested),
    )
    asked = [row for row in nested if "ORDER BY" in row[0] and "ctid" in row[0]]
    check("all questions are one statement", len(asked) == 1 and asked[0][1] == "3", str(asked))


def test_drawn_questions(session):
    """Those that leann.recall draws from the table are texts of its rows."""
    session.run(
        "CREATE EXTENSION pg_stat_statements; CREATE TABLE docs (body text);"
        "INSERT INTO docs SELECT 'secret ' || n FROM generate_series(1, 400) n;"
        "CREATE INDEX docs_emb ON docs USING leann (embedding_of(body))"
    )
    session.run("SELECT pg_stat_statements_reset()")
    drawn = session.value(
        "SELECT count(*) FROM leann.recall('docs_emb', samples => 7) WHERE query LIKE 'secret %'"
    )
    check("the questions are texts of rows", drawn == "7", drawn)
    seen = session.rows("SELECT query, calls FROM pg_stat_statements WHERE query LIKE '%ctid%'")
    check("no statement shows one", not any("secret" in row[0] for row in seen), str(seen))
    asked = [row for row in seen if "ORDER BY" in row[0]]
    check("all of them are one statement", len(asked) == 1 and asked[0][1] == "7", str(asked))
    read = [row for row in seen if "ORDER BY" not in row[0]]
    check("the table is read twice", len(read) == 1 and read[0][1] == "2", str(read))
