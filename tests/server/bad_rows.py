#!/usr/bin/env python3
"""A row that cannot be embedded: a build and an insert say which row it is and how far the build was; without the row both work."""

import pathlib
import shutil
import struct
import tempfile

from common import ROOT, SqlError, check, faults, main, tiny_cluster

TOKEN, TOKENS, DIMENSIONS = 1428, 1429, 64  # "zebra", the last one


def varint(number):
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


def model_that_chokes(folder):
    """The tiny model, but its vector of one word is no number."""
    shutil.copytree(ROOT / "tests" / "models" / "tiny-hash", folder / "choking")
    file = next((folder / "choking").rglob("model.onnx"))
    data = bytearray(file.read_bytes())
    field = b"\x4a" + varint(TOKENS * DIMENSIONS * 2)  # raw_data of the table of token vectors
    assert data.count(field) == 1, "the table of token vectors is not where it was"
    start = data.index(field) + len(field) + TOKEN * DIMENSIONS * 2
    data[start:start + DIMENSIONS * 2] = struct.pack("<e", float("nan")) * DIMENSIONS
    file.write_bytes(data)


def error_of(session, sql):
    try:
        session.run(sql, 600)
    except SqlError as error:
        return str(error)
    return "no error"


def not_a_number():
    with tempfile.TemporaryDirectory() as folder, tiny_cluster("autovacuum=off") as cluster, cluster.session() as session:
        model_that_chokes(pathlib.Path(folder))
        session.run(f"SET leann.model_dir = '{cluster.readable(folder)}'; SET leann.default_model = 'choking'")
        session.run("CREATE TABLE docs (id int, body text); INSERT INTO docs SELECT n, 'a house and a garden, number ' || n"
                    " FROM generate_series(1, 1000) n; UPDATE docs SET body = 'a zebra in the garden' || repeat(' of stone', 20) WHERE id = 777")
        ctid = session.value("SELECT ctid FROM docs WHERE id = 777")
        error = error_of(session, "CREATE INDEX docs_embedding ON docs USING leann (embedding_of(body))")
        check("a build names the row by ctid", f"at ctid {ctid}" in error, error)
        check("and by the start of its text", '"a zebra in the garden of stone' in error and "..." in error, error)
        check("and says how far it was", 'Index "docs_embedding" was being built, ' in error and "rows were embedded" in error, error)
        check("SQLSTATE 38000", "38000" in error, error)
        session.run("DELETE FROM docs WHERE id = 777; CREATE INDEX docs_embedding ON docs USING leann (embedding_of(body))", 600)
        check("without it the table builds", not faults(session))
        error = error_of(session, "INSERT INTO docs VALUES (1001, 'house'), (1002, 'two zebra'), (1003, 'garden')")
        check("an insert says which text it was", 'a row whose text begins "two zebra"' in error, error)
        session.run("INSERT INTO docs VALUES (1001, 'house'), (1003, 'garden')")
        check("without it the others go in", not faults(session))
        # A row that comes into a partial index by an UPDATE of another column, by one who may not read its text.
        session.run("CREATE ROLE editor; CREATE TABLE notes (id int, shown bool, body text); INSERT INTO notes VALUES (1, false, 'two zebra');"
                    "CREATE INDEX ON notes USING leann (embedding_of(body)) WHERE shown;"
                    "GRANT SELECT (id), UPDATE (shown) ON notes TO editor; SET ROLE editor")
        error = error_of(session, "UPDATE notes SET shown = true WHERE id = 1")
        check("to one who may not read the text it is not quoted", "into index" in error and "zebra" not in error, error)


def invalid_bytes():
    with tiny_cluster("autovacuum=off") as cluster:
        with cluster.session() as session:
            session.run("CREATE DATABASE ascii ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0")
        with cluster.session("ascii") as session:
            session.run("SET client_encoding = 'SQL_ASCII'")
            session.run("CREATE EXTENSION leann; CREATE TABLE docs (id int, body text);"
                        "INSERT INTO docs SELECT n, 'passage ' || n FROM generate_series(1, 300) n")
            last = session.value("SELECT max(ctid) FROM docs")
            session.run("INSERT INTO docs VALUES (301, E'caf\\xe9 from a client of another encoding'), (302, 'and one more')")
            error = error_of(session, "CREATE INDEX docs_embedding ON docs USING leann (embedding_of(body))")
            check("bytes that are no text: the build says after which row", f"the last row read is at ctid {last}" in error, error)
            session.run("DELETE FROM docs WHERE id = 301; CREATE INDEX docs_embedding ON docs USING leann (embedding_of(body))")
            check("without them the table builds", not faults(session))


main(not_a_number, invalid_bytes)
