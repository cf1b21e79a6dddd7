"""Settings in a session that has not loaded the library yet, as docs/queries.md describes them."""

import pytest

from support.checks import check, said_by


@pytest.mark.cluster("autovacuum=off")
def test_sessions(cluster):
    # Settings that the configuration has are there before; these are not in it.
    with cluster.session() as session:
        check(
            "unknown before the library is loaded",
            "unrecognized configuration parameter" in said_by(session, "SHOW leann.ef_search")
            and session.value("SELECT current_setting('leann.ef_search', true)") is None,
        )
        session.run("SET leann.ef_search = 77; SET leann.ef_serach = 88; SELECT leann.embed('a')")
        check(
            "what was set before counts", session.value("SELECT current_setting('leann.ef_search')") == "77"
        )
        check(
            "a misspelled name is refused from then on",
            "leann" in said_by(session, "SET leann.ef_serach = 88"),
        )
    with cluster.session() as session:
        session.run("LOAD 'leann'")
        check("LOAD makes them known", session.value("SELECT current_setting('leann.ef_search')") == "128")
        session.run(
            "CREATE ROLE app LOGIN; ALTER ROLE app SET leann.ef_search = 200;"
            "ALTER ROLE app SET leann.max_embedded_rows = 5"
        )
    with cluster.session() as session:
        session.run("SET SESSION AUTHORIZATION app")
        check(
            "a role sets its own only where the library is loaded",
            "permission denied" in said_by(session, "ALTER ROLE app SET leann.ef_search = 300"),
        )
        session.run("SELECT leann.embed('a'); ALTER ROLE app SET leann.ef_search = 300")
    with cluster.session() as session:
        session.run("SET SESSION AUTHORIZATION app; SET leann.max_embedded_rows = 5")
        check(
            "the limit of embedded texts holds for a setting from before",
            "54000"
            in said_by(
                session,
                "SELECT count(*) FROM generate_series(1, 10) n WHERE embedding_of('text ' || n) <-> 'a' < 1",
            ),
        )
