"""Databases that are not UTF-8: every function that takes or gives text, names of objects, models and
settings beyond ASCII, and the errors that name them. The sessions speak UTF-8; the server converts."""

import json

import pytest

from pg import quote
from support.checks import check, error_of
from support.clusters import use_models
from support.models import put_model

# Each encoding with a word, a table and a model that it can write.
WORDS = {
    "LATIN1": ("café", "tä", "modèle"),
    "WIN1252": ("café €", "tä", "modèle"),
    "EUC_JP": ("日本語", "表", "型"),
    "UTF8": ("日本語 café €", "表ä", "modèle"),
}
PROMPT = "requête: "


@pytest.fixture
def cluster(cluster, open_folder):
    """A cluster with models whose names and prompts go beyond ASCII."""
    for name in ("tiny-hash", "prompted", *{model for _, _, model in WORDS.values()}):
        put_model(open_folder, name)
    settings = open_folder / "prompted" / "config_sentence_transformers.json"
    settings.write_text(json.dumps({"prompts": {"query": PROMPT, "passage": ""}}), encoding="utf-8")
    use_models(cluster, open_folder)
    return cluster


@pytest.mark.parametrize("encoding", WORDS)
def test_encoding(cluster, encoding):
    word, table, model = WORDS[encoding]
    with cluster.session() as session:
        session.run(f"CREATE DATABASE db_{encoding} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0")
    with cluster.session(database=f"db_{encoding.lower()}") as session:
        session.run("CREATE EXTENSION leann")
        session.run(
            f'CREATE TABLE "{table}" (id int, body text);'
            f"INSERT INTO \"{table}\" SELECT n, {quote(word)} || ' number ' || n"
            " FROM generate_series(1, 400) n;"
            f'CREATE INDEX "{table}_emb" ON "{table}" USING leann (embedding_of(body))'
            f" WHERE body <> {quote(word)}"
        )
        index = quote(f'"{table}_emb"')
        line = session.row(
            f"SELECT query, recall FROM leann.recall({index}, ARRAY[{quote(word + ' number 7')}], 3)"
        )
        check(
            f"{encoding}: leann.recall gives the question back, and finds what there is",
            line == [f"{word} number 7", "1"],
            str(line),
        )
        rows = session.rows(f"SELECT query FROM leann.recall({index}, k => 3, samples => 5)")
        drawn = [row[0] for row in rows]
        check(
            f"{encoding}: queries that it draws are texts of the database",
            len(drawn) == 5 and all(query.startswith(f"{word} number ") for query in drawn),
            str(drawn),
        )
        found = session.rows(
            f'SELECT id FROM "{table}" WHERE body <> {quote(word)}'
            f" ORDER BY embedding_of(body) <-> {quote(word + ' number 8')} LIMIT 3"
        )
        check(f"{encoding}: a search finds the text", ["8"] in found, str(found))
        check(
            f"{encoding}: a value comes back as it went in",
            session.value(f"SELECT embedding_of({quote(word)})::text = embedding_of({quote(word)})::text")
            == "t",
        )
        rows = session.rows("SELECT name, ready, query_prompt FROM leann.models")
        prompts = [row[2] for row in rows if row[0] == "prompted"]
        shown = PROMPT if encoding != "EUC_JP" else prompts[0]
        check(
            f"{encoding}: the models are listed, whatever their names and prompts",
            len(rows) == 4
            and all(row[1] == "t" for row in rows)
            and prompts == [shown]
            and prompts[0].startswith("requ"),
            str(rows),
        )
        check(
            f"{encoding}: a model's name may be any text of the database",
            [model] in session.rows(f"SELECT name FROM leann.models WHERE name = {quote(model)}"),
        )
        session.run(
            f'CREATE INDEX "{table}_model" ON "{table}" USING leann (embedding_of(body, {quote(model)}))'
        )
        named = session.value(
            f"SELECT model FROM leann.index_info({quote(chr(34) + table + '_model' + chr(34))})"
        )
        check(f"{encoding}: an index is of that model", named == model, named)
        session.run(f"SET leann.default_model = {quote(model)}")
        check(f"{encoding}: so may the default", session.value("SELECT leann.embed('x') IS NOT NULL") == "t")
        session.run("RESET leann.default_model")
        error = error_of(
            session, f'CREATE INDEX ON "{table}" USING leann (embedding_of(body, {quote(model + "!")}))'
        )
        check(
            f"{encoding}: a missing model is named",
            error.sqlstate == "42704" and escaped(encoding, model + "!") in str(error),
            str(error),
        )
        error = error_of(session, f'CREATE INDEX "{table}_text" ON "{table}" USING leann (body)')
        check(
            f"{encoding}: so is a table",
            error.sqlstate == "42809" and escaped(encoding, table) in str(error),
            str(error),
        )


def escaped(encoding, text):
    """A text as errors show it: where the database is not UTF-8, by the escapes of U&'...'."""
    return text if encoding == "UTF8" else "".join(c if c.isascii() else f"\\{ord(c):04X}" for c in text)


def test_no_encoding(cluster):
    """SQL_ASCII takes any bytes for text; a model takes UTF-8 only."""
    with cluster.session() as session:
        session.run("CREATE DATABASE db_ascii ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0")
    with cluster.session(database="db_ascii") as session:
        session.run(
            "CREATE EXTENSION leann; CREATE TABLE docs (id int, body text);"
            "INSERT INTO docs SELECT n, 'word ' || n FROM generate_series(1, 300) n;"
            "INSERT INTO docs VALUES (301, 'café');"
            "CREATE INDEX docs_emb ON docs USING leann (embedding_of(body))"
        )
        line = session.row("SELECT query, recall FROM leann.recall('docs_emb', ARRAY['café'], 3)")
        check("SQL_ASCII: UTF-8 is text", line == ["café", "1"], str(line))
        error = error_of(session, r"INSERT INTO docs VALUES (302, E'caf\xe9 from elsewhere')")
        check(
            "SQL_ASCII: other bytes are refused, and the row is not lost in silence",
            error.sqlstate in ("22021", "22P02"),
            str(error),
        )
        check("SQL_ASCII: the models are listed", len(session.rows("SELECT name FROM leann.models")) == 4)
