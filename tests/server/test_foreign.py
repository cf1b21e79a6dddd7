"""A foreign table over postgres_fdw: the order by distance to a vector is shipped, so that the remote index
answers."""

import pytest

from support.checks import check


@pytest.mark.cluster("autovacuum=off")
def test_foreign(cluster):
    with cluster.session() as session:
        if session.value("SELECT count(*) FROM pg_available_extensions WHERE name = 'postgres_fdw'") == "0":
            pytest.skip("there is no postgres_fdw")
        session.run("CREATE DATABASE remote")
    with cluster.session(database="remote") as remote:
        remote.run(
            "CREATE EXTENSION leann; CREATE TABLE docs (id int PRIMARY KEY, body text);"
            "INSERT INTO docs SELECT n, 'passage number ' || n || ' about subject ' || n % 11"
            " FROM generate_series(1, 1000) n;"
            "CREATE INDEX docs_embedding ON docs USING leann (embedding_of(body)); ANALYZE docs"
        )
    with cluster.session() as session:
        session.run(
            "CREATE EXTENSION postgres_fdw; CREATE SERVER other FOREIGN DATA WRAPPER postgres_fdw OPTIONS ("
            f"host '{cluster.env['PGHOST']}', port '{cluster.env['PGPORT']}', dbname 'remote', extensions"
            " 'leann', fetch_size '10');"
            f"CREATE USER MAPPING FOR CURRENT_USER SERVER other OPTIONS (user '{cluster.env['PGUSER']}');"
            "IMPORT FOREIGN SCHEMA public LIMIT TO (docs) FROM SERVER other INTO public"
        )
        for distance in (
            "embedding_of(body) <-> (SELECT leann.embed('passage number 42 about subject 9', role =>"
            " 'query'))",
            "embedding_of(body, 'tiny-hash') <=> (SELECT leann.embed('passage number 42 about subject 9',"
            " role => 'query'))",
            "embedding_of(body) <-> 'passage number 42 about subject 9'::leann.embedding",
        ):
            select = f"SELECT id FROM docs ORDER BY {distance} LIMIT 1"
            plan = "\n".join(session.run(f"EXPLAIN (VERBOSE, COSTS OFF) {select}"))
            check(
                f"the order is shipped: {distance}",
                "Sort" not in plan and "ORDER BY (public.embedding_of(body" in plan,
                plan,
            )
            check(f"and answered: {distance}", session.value(select) == "42")
        # A text of its own has a collation, with which postgres_fdw ships nothing.
        check(
            "words are compared here",
            session.value(
                "SELECT id FROM docs ORDER BY embedding_of(body) <-> 'passage number 42 about subject 9'"
                " LIMIT 1"
            )
            == "42",
        )
