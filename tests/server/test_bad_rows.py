"""A row that cannot be embedded: a build and an insert say which row it is and how far the build was; without
the row both work."""

import struct

import pytest

from support.checks import check, said_by
from support.index import faults
from support.models import put_model, varint

TOKEN, TOKENS, DIMENSIONS = 1428, 1429, 64  # "zebra", the last one


def model_that_chokes(folder):
    """The tiny model, but its vector of one word is no number."""
    file = put_model(folder, "choking") / "model.onnx"
    data = bytearray(file.read_bytes())
    field = b"\x4a" + varint(TOKENS * DIMENSIONS * 2)  # raw_data of the table of token vectors
    assert data.count(field) == 1, "the table of token vectors is not where it was"
    start = data.index(field) + len(field) + TOKEN * DIMENSIONS * 2
    data[start : start + DIMENSIONS * 2] = struct.pack("<e", float("nan")) * DIMENSIONS
    file.write_bytes(data)


@pytest.mark.cluster("autovacuum=off")
def test_not_a_number(cluster, session, open_folder):
    model_that_chokes(open_folder)
    session.run(f"SET leann.model_dir = '{open_folder}'; SET leann.default_model = 'choking'")
    session.run(
        "CREATE TABLE docs (id int, body text);"
        "INSERT INTO docs SELECT n, 'a house and a garden, number ' || n FROM generate_series(1, 1000) n;"
        "UPDATE docs SET body = 'a zebra in the garden' || repeat(' of stone', 20) WHERE id = 777"
    )
    ctid = session.value("SELECT ctid FROM docs WHERE id = 777")
    error = said_by(session, "CREATE INDEX docs_embedding ON docs USING leann (embedding_of(body))")
    check("a build names the row by ctid", f"at ctid {ctid}" in error, error)
    check(
        "and by the start of its text",
        '"a zebra in the garden of stone' in error and "..." in error,
        error,
    )
    check(
        "and says how far it was",
        'Index "docs_embedding" was being built; ' in error and "rows were embedded" in error,
        error,
    )
    check("SQLSTATE 38000", "38000" in error, error)
    session.run(
        "DELETE FROM docs WHERE id = 777;"
        "CREATE INDEX docs_embedding ON docs USING leann (embedding_of(body))",
    )
    check("without it the table builds", not faults(session))
    error = said_by(session, "INSERT INTO docs VALUES (1001, 'house'), (1002, 'two zebra'), (1003, 'garden')")
    check("an insert says which text it was", 'A row whose text begins "two zebra"' in error, error)
    session.run("INSERT INTO docs VALUES (1001, 'house'), (1003, 'garden')")
    check("without it the others go in", not faults(session))
    # A row that comes into a partial index by an UPDATE of another column, by one who may not read its
    # text.
    session.run(
        "CREATE ROLE editor; CREATE TABLE notes (id int, shown bool, body text);"
        "INSERT INTO notes VALUES (1, false, 'two zebra');"
        "CREATE INDEX ON notes USING leann (embedding_of(body)) WHERE shown;"
        "GRANT SELECT (id), UPDATE (shown) ON notes TO editor; SET ROLE editor"
    )
    error = said_by(session, "UPDATE notes SET shown = true WHERE id = 1")
    check(
        "to one who may not read the text it is not quoted",
        "A row was being inserted into index" in error and "zebra" not in error,
        error,
    )


@pytest.mark.cluster("autovacuum=off")
def test_invalid_bytes(cluster):
    with cluster.session() as session:
        session.run("CREATE DATABASE ascii ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0")
    with cluster.session("ascii") as session:
        session.run("SET client_encoding = 'SQL_ASCII'")
        session.run(
            "CREATE EXTENSION leann; CREATE TABLE docs (id int, body text);"
            "INSERT INTO docs SELECT n, 'passage ' || n FROM generate_series(1, 300) n"
        )
        last = session.value("SELECT max(ctid) FROM docs")
        session.run(
            "INSERT INTO docs VALUES (301, E'caf\\xe9 from a client of another encoding'),"
            " (302, 'and one more')"
        )
        error = said_by(session, "CREATE INDEX docs_embedding ON docs USING leann (embedding_of(body))")
        check(
            "bytes that are no text: the build says after which row",
            f"the last row read is at ctid {last}" in error,
            error,
        )
        session.run(
            "DELETE FROM docs WHERE id = 301; CREATE INDEX docs_embedding ON docs USING leann"
            " (embedding_of(body))"
        )
        check("without them the table builds", not faults(session))
