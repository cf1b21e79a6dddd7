"""pg_dump and restore: into another database, as text and in custom format; what comes back is indexed, sound
and found."""

from support.checks import check
from support.clusters import run_client
from support.index import faults, found_by_own_text, same_rows
from support.texts import SQL_SENTENCE


def restored(cluster, name):
    with cluster.session(database=name) as session:
        check(f"{name}: leann.check is clean", not faults(session) and not faults(session, "kept_embedding"))
        same_rows(f"{name}: the index holds exactly the table's rows", session)
        check(f"{name}: rows are found by their own text", not found_by_own_text(session, range(1, 600, 60)))
        check(
            f"{name}: options and partial indexes come back",
            session.value(
                "SELECT count(*) FROM pg_indexes WHERE indexdef LIKE '%USING leann%sketch_bytes%WHERE%'"
            )
            == "1",
        )
        check(
            f"{name}: values of the type come back",
            session.value("SELECT count(*) FROM kept WHERE vector = '[3, 4]'::leann.embedding") == "1"
            and session.value("SELECT count(*) FROM kept WHERE vector = embedding_of('a deferred one')")
            == "1",
        )


def test_dump_and_restore(cluster):
    with cluster.session() as session:
        session.run(SQL_SENTENCE)
        session.run(
            "CREATE TABLE docs (id int PRIMARY KEY, body text);"
            "INSERT INTO docs SELECT n, sentence(n) FROM generate_series(1, 600) n;"
            "CREATE INDEX docs_embedding ON docs USING leann (embedding_of(body));"
            "CREATE INDEX docs_some ON docs USING leann (embedding_of(body, 'tiny-hash'))"
            " WITH (sketch_bytes = 24, fillfactor = 90) WHERE id > 300;"
            "CREATE TABLE kept (vector leann.embedding); INSERT INTO kept VALUES ('[3, 4]');"
            "INSERT INTO kept SELECT embedding_of('a deferred one');"
            "CREATE INDEX kept_embedding ON kept USING leann (embedding_of('x'::text)) WHERE false"
        )
        session.run("CREATE DATABASE as_text; CREATE DATABASE as_archive")
    text = run_client(cluster, "pg_dump", "--no-sync", "postgres")
    run_client(cluster, "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "as_text", given=text)
    restored(cluster, "as_text")
    archive = run_client(cluster, "pg_dump", "--no-sync", "--format=custom", "postgres")
    run_client(cluster, "pg_restore", "--exit-on-error", "--dbname=as_archive", given=archive)
    restored(cluster, "as_archive")
