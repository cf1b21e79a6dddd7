"""Where the extension lives: in a schema of one's choice, with public dropped, with no search_path at all,
for roles without privileges, beside a table called embedding; and what it says where a schema leann is in the
way."""

import pytest

from support.checks import check, check_refused
from support.clusters import run_client
from support.index import faults

DOCS = """
CREATE TABLE app.docs (id int PRIMARY KEY, body text);
INSERT INTO app.docs SELECT n, 'passage number ' || n || ' about subject ' || n % 11
FROM generate_series(1, 1000) n
"""


@pytest.mark.cluster("autovacuum=off")
def test_refused(cluster):
    """A schema leann of somebody else, and a search_path that leads nowhere."""
    with cluster.session() as session:
        session.run("CREATE DATABASE occupied")
    with cluster.session(database="occupied") as session:
        session.run("CREATE ROLE leann; CREATE SCHEMA AUTHORIZATION leann; CREATE TABLE leann.mine (id int)")
        check_refused(
            "refused: CREATE EXTENSION leann",
            session,
            "CREATE EXTENSION leann",
            "42P06",
            'schema "leann" exists already',
        )
        check_refused(
            "refused: CREATE EXTENSION leann SCHEMA leann",
            session,
            "CREATE EXTENSION leann SCHEMA leann",
            "42P06",
            "HINT:  Give the other schema another name",
        )
        check(
            "it stays as it was",
            session.value(
                "SELECT nspowner::regrole || ' ' || (nspacl IS NULL) FROM pg_namespace"
                " WHERE nspname = 'leann'"
            )
            == "leann true"
            and session.value("SELECT count(*) FROM pg_extension WHERE extname = 'leann'") == "0",
        )
        check_refused(
            "refused: CREATE EXTENSION leann SCHEMA nowhere",
            session,
            "CREATE EXTENSION leann SCHEMA nowhere",
            "3F000",
            'schema "nowhere" does not exist',
        )
        session.run("SET search_path = ''")
        check_refused(
            "refused: CREATE EXTENSION leann",
            session,
            "CREATE EXTENSION leann",
            "3F000",
            "no schema has been selected to create in",
        )
        session.run(
            "RESET search_path; ALTER SCHEMA leann RENAME TO other; CREATE EXTENSION leann;"
            "DROP EXTENSION leann;"
            "DROP SCHEMA other CASCADE; DROP ROLE leann"
        )


@pytest.mark.cluster("autovacuum=off")
def test_elsewhere(cluster):
    """In a schema of its own, public dropped, used by a role that has USAGE and nothing else."""
    with cluster.session() as session:
        session.run("CREATE DATABASE elsewhere; CREATE ROLE app")
    with cluster.session(database="elsewhere") as session:
        session.run(
            'DROP SCHEMA public; CREATE SCHEMA "Ext 1"; CREATE EXTENSION leann SCHEMA "Ext 1";'
            'GRANT USAGE ON SCHEMA "Ext 1" TO app;'
            "CREATE SCHEMA app AUTHORIZATION app"
        )
        owner = session.value("SELECT nspacl::text FROM pg_namespace WHERE nspname = 'Ext 1'")
        check(
            "a schema made by somebody else keeps its privileges",
            "=U/" not in owner.replace("app=U/", ""),
            owner,
        )
        session.run("SET SESSION AUTHORIZATION app; SET search_path = ''")
        session.run(DOCS)
        session.run(
            'CREATE INDEX docs_embedding ON app.docs USING leann ("Ext 1".embedding_of(body));'
            "ANALYZE app.docs"
        )
        search = (
            'SELECT id FROM app.docs ORDER BY "Ext 1".embedding_of(body) OPERATOR("Ext 1".<->) {} LIMIT 1'
        )
        for query in (
            "'passage number 42 about subject 9'",
            "leann.embed('passage number 42 about subject 9')",
            '(SELECT "Ext 1".embedding_of(body) FROM app.docs WHERE id = 42)',
            "'passage number 42 about subject 9'::leann.embedding",
        ):
            select = search.format(query)
            check(
                f"no search_path: {query[:40]}",
                session.value(select) == "42" and "Index Scan" in session.plan(select),
                session.plan(select),
            )
        select = (
            "SELECT id FROM app.docs ORDER BY leann.distance(body, 'passage number 42 about subject 9')"
            " LIMIT 1"
        )
        check("leann.distance too", session.value(select) == "42" and "Index Scan" in session.plan(select))
        check(
            "views and functions too",
            session.value("SELECT count(*) > 0 FROM leann.models") == "t"
            and session.value("SELECT nodes FROM leann.index_info('app.docs_embedding')") == "1000",
        )
        session.run(
            "CREATE TABLE app.kept (value leann.embedding);"
            "INSERT INTO app.kept VALUES ('[3,4]'), (ARRAY[1,2]); SELECT DISTINCT value FROM app.kept;"
            "UPDATE app.docs SET body = body || ' again' WHERE id = 7; DELETE FROM app.docs WHERE id = 8"
        )
        session.run('SET search_path = "Ext 1", app')
        check(
            "and with a search_path nothing needs a name",
            session.value(
                "SELECT id FROM docs ORDER BY embedding_of(body) <-> 'passage number 9 about subject 9'"
                " LIMIT 1"
            )
            == "9",
        )
        session.run("RESET SESSION AUTHORIZATION")
        check("the index is sound", not faults(session, "app.docs_embedding"))
    restored(cluster)


def restored(cluster):
    """pg_dump and back: the schema comes along."""
    with cluster.session() as session:
        session.run("CREATE DATABASE restored")
    dump = run_client(cluster, "pg_dump", "elsewhere")
    run_client(cluster, "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", "restored", given=dump)
    check("a dump is restored without an error", True)
    with cluster.session(database="restored") as session:
        check(
            "and its index serves",
            session.value(
                "SELECT id FROM app.docs ORDER BY leann.distance(body, 'passage number 42 about subject 9')"
                " LIMIT 1"
            )
            == "42"
            and session.value("SELECT extnamespace::regnamespace FROM pg_extension WHERE extname = 'leann'")
            == '"Ext 1"',
        )


@pytest.mark.cluster("autovacuum=off")
def test_names(cluster):
    """Tables that have the names of our objects, before and after."""
    with cluster.session() as session:
        session.run("CREATE DATABASE named")
    with cluster.session(database="named") as session:
        session.run(
            "CREATE TABLE embedding (id int, v float8[]); CREATE TABLE query (id int);"
            "CREATE TYPE distance AS (x int); CREATE EXTENSION leann;"
            "DROP TABLE embedding; CREATE TABLE embedding (id int); CREATE TABLE cache (id int);"
            "CREATE TABLE models (id int);"
            "CREATE SCHEMA app"
        )
        session.run(DOCS)
        session.run("CREATE INDEX ON app.docs USING leann (embedding_of(body))")
        check(
            "a table called embedding is in nobody's way",
            session.value(
                "SELECT id FROM app.docs ORDER BY embedding_of(body) <-> 'passage number 42 about subject 9'"
                " LIMIT 1"
            )
            == "42",
        )
        session.run("DROP EXTENSION leann CASCADE")
        check(
            "nothing is left",
            session.value("SELECT count(*) FROM pg_namespace WHERE nspname = 'leann'") == "0",
        )
