#!/usr/bin/env python3
"""Settings in a session that has not loaded the library yet, as docs/queries.md describes them."""

from common import SqlError, check, main, tiny_cluster


def refused(session, sql, words):
    try:
        session.run(sql)
    except SqlError as error:
        return words in error.message
    return False


def sessions():
    with tiny_cluster("autovacuum=off") as cluster:
        # Settings that the configuration has are there before; these are not in it.
        with cluster.session() as session:
            check("unknown before the library is loaded", refused(session, "SHOW leann.ef_search", "unrecognized configuration parameter")
                  and session.value("SELECT current_setting('leann.ef_search', true)") is None)
            session.run("SET leann.ef_search = 77; SET leann.ef_serach = 88; SELECT leann.embed('a')")
            check("what was set before counts", session.value("SELECT current_setting('leann.ef_search')") == "77")
            check("a misspelt name is refused from then on", refused(session, "SET leann.ef_serach = 88", "leann"))
        with cluster.session() as session:
            session.run("LOAD 'leann'")
            check("LOAD makes them known", session.value("SELECT current_setting('leann.ef_search')") == "128")
            session.run("CREATE ROLE app LOGIN; ALTER ROLE app SET leann.ef_search = 200; ALTER ROLE app SET leann.max_embedded_rows = 5")
        with cluster.session() as session:
            session.run("SET SESSION AUTHORIZATION app")
            check("a role sets its own only where the library is loaded", refused(session, "ALTER ROLE app SET leann.ef_search = 300", "permission denied"))
            session.run("SELECT leann.embed('a'); ALTER ROLE app SET leann.ef_search = 300")
        with cluster.session() as session:
            session.run("SET SESSION AUTHORIZATION app; SET leann.max_embedded_rows = 5")
            check("the limit of embedded texts holds for a setting from before", refused(
                session, "SELECT count(*) FROM generate_series(1, 10) n WHERE embedding_of('text ' || n) <-> 'a' < 1", "54000"))


main(sessions)
