"""pg_upgrade to this Postgres from every older one that is at hand (scripts/other_postgres.sh) and has the
extension: the index files are taken over as they are, are sound, give the same answers without a rebuild, and
can be written to. Skipped where there is no older one; `make test-all` fetches them. An older one from which
pg_upgrade cannot bring even a plain table here is left out: a new minor release of an old major may write
what an old minor release of a new major does not know."""

import pathlib
import subprocess

import pytest

from cluster import ROOT, Cluster, ClusterError, major_version, pg_config
from support.checks import check, note
from support.clusters import model_settings, tiny_cluster
from support.index import faults, found_by_own_text, nearest, same_rows
from support.texts import SQL_SENTENCE

QUERIES = ("ab cd ef", "12 34", "passages that nobody wrote")


def with_extension():
    """{major: pg_config} of the older servers with the extension."""
    command = [ROOT / "scripts" / "other_postgres.sh", "--at-hand"]
    at_hand = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    found = {int(number): config for number, config in (line.split(" ", 1) for line in at_hand.splitlines())}
    return {
        number: config
        for number, config in found.items()
        if number < major_version()
        and pathlib.Path(pg_config("--sharedir", config), "extension", "leann.control").exists()
        and pathlib.Path(pg_config("--pkglibdir", config), "leann.so").exists()
    }


@pytest.fixture(scope="module")
def older():
    """Those of them from which pg_upgrade can bring a plain table here."""
    found = with_extension()
    if not found:
        pytest.skip(
            f"no Postgres older than {major_version()} with the extension is at hand; "
            "`make test-all` fetches them"
        )
    usable = {number: config for number, config in found.items() if possible(config)}
    for left_out in found.keys() - usable.keys():
        note(f"left out: from {left_out}, pg_upgrade cannot bring a plain table here")
    if not usable:
        pytest.skip(
            f"pg_upgrade cannot bring a plain table here from {', '.join(map(str, found))}, so it is not"
            " about the extension"
        )
    return usable


def filled(old, unlogged):
    """An index that was built and then grew, a partial one that names its model, one that
    stores embeddings, an unlogged one, one in another schema."""
    with old.session() as session:
        session.run(SQL_SENTENCE)
        session.run(
            "CREATE TABLE docs (id int PRIMARY KEY, body text);"
            "INSERT INTO docs SELECT n, sentence(n) FROM generate_series(1, 800) n;"
            "CREATE INDEX docs_embedding ON docs USING leann (embedding_of(body));"
            "INSERT INTO docs SELECT n, sentence(n) FROM generate_series(801, 2000) n;"
            "DELETE FROM docs WHERE id % 5 = 0 OR id BETWEEN 300 AND 600; VACUUM docs;"
            "CREATE INDEX docs_some ON docs USING leann (embedding_of(body, 'tiny-hash-b'))"
            " WITH (sketch_bytes = 24) WHERE id > 1000;"
            "CREATE INDEX docs_stored ON docs USING leann (embedding_of(body)) WITH (store = float16)"
            " WHERE id > 500;"
            "CREATE TABLE kept (vector leann.embedding); INSERT INTO kept VALUES ('[3, 4]'),"
            " (embedding_of('a deferred one'));"
            f"CREATE {'UNLOGGED' if unlogged else ''} TABLE passing (body text);"
            "CREATE INDEX passing_embedding ON passing USING leann (embedding_of(body));"
            "INSERT INTO passing SELECT sentence(n) FROM generate_series(1, 100) n;"
            "CREATE SCHEMA elsewhere; CREATE TABLE elsewhere.docs (body text);"
            "CREATE INDEX elsewhere_embedding ON elsewhere.docs USING leann (embedding_of(body)); CHECKPOINT",
            600,
        )
        return state(session)


def state(session):
    """What must be the same before and after: the bytes of the index files (not of the unlogged one, which a
    checkpoint does not write), and answers."""
    files = [
        session.value(f"SELECT md5(pg_read_binary_file(pg_relation_filepath('{index}')))")
        for index in ("docs_embedding", "docs_some", "docs_stored", "elsewhere.elsewhere_embedding")
    ]
    return (
        files,
        [nearest(session, query, 20, False) for query in QUERIES],
        session.rows("SELECT vector::text FROM kept"),
    )


def upgraded(name, new, before, unlogged):
    with new.session() as session:
        files, answers, values = state(session)
        check(f"{name}: the index files are the old ones", files == before[0])
        check(f"{name}: the same answers", answers == before[1])
        check(f"{name}: values of the type are the same", values == before[2])
        for index in (
            "docs_embedding",
            "docs_some",
            "docs_stored",
            "passing_embedding",
            "elsewhere.elsewhere_embedding",
        ):
            found = faults(session, index)
            check(f"{name}: leann.check({index}) is clean", not found, "; ".join(found[:5]))
        same_rows(f"{name}: the index holds exactly the table's rows", session)
        session.run(
            "INSERT INTO docs SELECT n, sentence(n) FROM generate_series(3001, 4000) n;"
            "UPDATE docs SET body = sentence(id + 7) WHERE id % 7 = 0; DELETE FROM docs WHERE id % 11 = 0;"
            "VACUUM docs",
            600,
        )
        check(
            f"{name}: clean after writes and VACUUM",
            not any(faults(session, index) for index in ("docs_embedding", "docs_some", "docs_stored")),
        )
        same_rows(f"{name}: and it holds exactly the table's rows", session)
        check(f"{name}: new rows are found", not found_by_own_text(session, range(3004, 3990, 99)))
    new.kill()
    new.start()
    with new.session() as session:
        check(f"{name}: clean after a crash", not faults(session))
        if unlogged:
            session.run("INSERT INTO passing VALUES ('after the crash'); SET enable_seqscan = off")
            check(
                f"{name}: an unlogged index is reset by a crash and works",
                not faults(session, "passing_embedding")
                and session.run("SELECT body FROM passing ORDER BY embedding_of(body) <-> 'x' LIMIT 9")
                == ["after the crash"],
            )


def possible(config):
    """Whether a cluster with a plain table, without the extension, can be upgraded."""
    with Cluster(pg_config=config) as old:
        with old.session() as session:
            session.run("CREATE TABLE plain (id int PRIMARY KEY, body text)")
        try:
            with Cluster(upgrade_of=old) as new, new.session() as session:
                return session.value("SELECT count(*) FROM plain") == "0"
        except ClusterError:
            return False


def test_upgrades(older):
    for number, config in older.items():
        with tiny_cluster("autovacuum=off", pg_config=config) as old:
            before = filled(old, unlogged=True)
            with Cluster("autovacuum=off", *model_settings(old), upgrade_of=old) as new:
                upgraded(f"from {number}", new, before, unlogged=True)


def test_before_the_settings(older):
    """pg_upgrade needs no model, except for unlogged indexes: many people carry their settings over only
    after it."""
    number, config = max(older.items())
    with tiny_cluster("autovacuum=off", pg_config=config) as old:
        before = filled(old, unlogged=False)
        with Cluster("leann.model_dir=/nowhere", upgrade_of=old) as new:
            new.settings = ["fsync=off", "autovacuum=off", *model_settings(old)]
            new.start()
            upgraded(f"from {number}, without a model", new, before, unlogged=False)
