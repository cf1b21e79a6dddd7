"""What an unprivileged role may try: definitions that change while they are read, functions and operators in
the place of others, texts that it may not read in its caches, values that no memory is left for. The server
stays up and tells nothing."""

import pytest

from support.checks import check, error_of
from support.clusters import run_client

SECRETS = (
    "INSERT INTO {0} SELECT n, CASE WHEN n % 3 = 0 THEN 'visitor' ELSE 'owner' END,"
    " CASE WHEN n % 3 = 0 THEN 'public text ' ELSE 'a secret of number ' END || n"
    " FROM generate_series(1, 300) n"
)


def as_role(cluster, role):
    return cluster.session(name=role, user=role)


def test_changing_definitions(cluster):
    """leann.recall reads the table in two statements; between them the index's function becomes another
    one."""
    with cluster.session() as admin:
        admin.run("CREATE ROLE visitor LOGIN; CREATE SCHEMA m AUTHORIZATION visitor")
        with as_role(cluster, "visitor") as visitor:
            visitor.run("""
                CREATE TABLE m.docs (id int, body text);
                INSERT INTO m.docs SELECT n, 'word' || n || ' some text' FROM generate_series(1, 300) n;
                CREATE FUNCTION m.change() RETURNS void LANGUAGE plpgsql AS $$ BEGIN
                    IF current_setting('my.armed', true) = 'yes' THEN
                        PERFORM set_config('my.armed', 'no', false);
                        ALTER FUNCTION m.f(text) RENAME TO f_old;
                        CREATE FUNCTION m.f(text) RETURNS bigint LANGUAGE sql IMMUTABLE AS
                            'SELECT 4096::bigint';
                    END IF; END $$;
                CREATE FUNCTION m.f(text) RETURNS leann.embedding LANGUAGE plpgsql IMMUTABLE AS
                    $$ BEGIN PERFORM m.change(); RETURN public.embedding_of($1); END $$;
                CREATE INDEX docs_f ON m.docs USING leann (m.f(body))""")
            recall = "SELECT recall FROM leann.recall('m.docs_f', ARRAY['word7'], 3)"
            check("leann.recall of a function that returns embeddings", visitor.rows(recall) == [["1"]])
            visitor.run("SET my.armed = 'yes'")
            error = error_of(visitor, recall)
            check(
                "one that becomes another in between gives an error",
                error is not None and error.sqlstate == "55000",
                str(error),
            )
            check("and the session goes on", visitor.run("SELECT 1") == ["1"])


def test_planted_types(cluster):
    """PL/pgSQL looks up names when a session calls a function first, by the path of that moment."""
    with cluster.session() as admin:
        admin.run(
            "CREATE ROLE owner LOGIN; CREATE ROLE visitor LOGIN; CREATE SCHEMA app AUTHORIZATION owner;"
            "GRANT USAGE ON SCHEMA app TO visitor;"
            "CREATE SCHEMA evil AUTHORIZATION visitor"
        )
        with as_role(cluster, "owner") as owner:
            owner.run(
                """
                CREATE FUNCTION app.clean(body text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS
                    $$ DECLARE t text; BEGIN t := pg_catalog.lower(body); RAISE NOTICE 'it is %', t; RAISE
                        INFO 'it is %', t; RETURN t; END $$;
                CREATE FUNCTION app.number(body text) RETURNS text LANGUAGE plpgsql IMMUTABLE SET search_path
                    = pg_catalog, pg_temp AS
                    $$ BEGIN RAISE NOTICE 'it is %', body; RETURN CASE WHEN body LIKE 'a%' THEN
                        (body::int)::text ELSE body END; END $$;
                -- Too expensive to be evaluated before rows are embedded, as other policies are.
                CREATE FUNCTION app.own(who name) RETURNS boolean LANGUAGE plpgsql STABLE COST 10000 SET
                    search_path = pg_catalog, pg_temp AS $$ BEGIN RETURN who = current_user; END $$;
                GRANT EXECUTE ON FUNCTION app.own(name) TO visitor;
                CREATE TABLE app.docs (id int, who name, body text);"""
                + SECRETS.format("app.docs")
                + """;
                ALTER TABLE app.docs ENABLE ROW LEVEL SECURITY;
                CREATE POLICY own ON app.docs USING (app.own(who));
                GRANT SELECT ON app.docs TO visitor;
                SET client_min_messages = warning;
                CREATE INDEX ON app.docs USING leann (embedding_of(app.clean(body)))"""
            )
            with as_role(cluster, "visitor") as visitor:
                visitor.run("""
                    CREATE TABLE evil.loot (t pg_catalog.text);
                    CREATE FUNCTION evil.leak(pg_catalog.text) RETURNS boolean LANGUAGE plpgsql AS
                        $$ BEGIN INSERT INTO evil.loot VALUES ($1); RETURN true; END $$;
                    CREATE DOMAIN evil.text AS pg_catalog.text CHECK (evil.leak(VALUE));
                    SET client_min_messages = error; SET search_path = evil, pg_catalog, public; SELECT
                        app.clean('x');
                    TRUNCATE evil.loot; SET search_path = public; SET enable_seqscan = off""")
                search = (
                    "SELECT id FROM app.docs ORDER BY embedding_of(app.clean(body)) <-> 'a secret' LIMIT 3"
                )
                check(
                    "a function that the session can change is no reason to read hidden rows",
                    "Index" not in visitor.plan(search),
                    visitor.plan(search),
                )
                rows = visitor.rows(search)
                check(
                    "the search answers all the same",
                    len(rows) == 3 and all(int(row[0]) % 3 == 0 for row in rows),
                    str(rows),
                )
                loot = visitor.rows("SELECT t FROM evil.loot WHERE t LIKE '%secret%'")
                check("and hands nobody's type a hidden row", not loot, str(loot[:3]))
                for path in (
                    "pg_catalog",
                    '"$user", pg_catalog, pg_temp',
                    "evil, pg_catalog, pg_temp",
                    "nowhere, pg_temp",
                ):
                    owner.run(f"ALTER FUNCTION app.clean(text) SET search_path = {path}")
                    check(f"nor is one with the path {path}", "Index" not in visitor.plan(search))
                owner.run("ALTER FUNCTION app.clean(text) SET search_path = pg_catalog, pg_temp")
                check(
                    "with a path that leads to no place of the visitor's it serves",
                    "Index" in visitor.plan(search),
                )
                visitor.run("CREATE DOMAIN pg_temp.text AS pg_catalog.text CHECK (evil.leak(VALUE))")
                visitor.run(search)
                loot = visitor.rows("SELECT t FROM evil.loot WHERE t LIKE '%secret%'")
                check("and finds no temporary type before the server's", not loot, str(loot[:3]))
                visitor.run("SET client_min_messages = notice")
                visitor.notices.clear()
                found = visitor.run(search)
                said = "\n".join(visitor.notices)
                check("what it says of hidden rows is not heard", found and "secret" not in said, said[:300])
                # One that fails on hidden rows only, with their text in the message.
                owner.run(
                    "SET client_min_messages = error; SET check_function_bodies = off;"
                    "CREATE TABLE app.more (id int, who name, body text);"
                    "CREATE INDEX ON app.more USING leann (embedding_of(app.number(body)))"
                )
                owner.run(SECRETS.format("app.more").replace("'a secret of number ' END || n", "'' || n END"))
                owner.run(
                    "CREATE OR REPLACE FUNCTION app.number(body text) RETURNS text LANGUAGE plpgsql IMMUTABLE"
                    " SET search_path = pg_catalog, pg_temp AS $$ BEGIN IF body NOT LIKE 'public%'"
                    " THEN RAISE EXCEPTION 'not for numbers: %', body;"
                    "END IF; RETURN body; END $$;"
                    "ALTER TABLE app.more ENABLE ROW LEVEL SECURITY;"
                    "CREATE POLICY own ON app.more USING (app.own(who));"
                    "GRANT SELECT ON app.more TO visitor"
                )
                error = error_of(
                    visitor,
                    "SELECT id FROM app.more ORDER BY embedding_of(app.number(body)) <-> '7' LIMIT 100",
                )
                check(
                    "nor what it fails on",
                    error is not None and "not for numbers" not in str(error),
                    str(error),
                )
                owner.run("ALTER POLICY own ON app.more USING (who = current_user)")
                rows = visitor.rows(
                    "SELECT id FROM app.more ORDER BY embedding_of(app.number(body)) <-> '7' LIMIT 100"
                )
                check("a policy that is evaluated first keeps it from failing", rows, str(rows))


def test_planted_operators(cluster):
    """An operator that fits the catalogs better than the server's own."""
    with cluster.session() as admin:
        admin.run(
            "CREATE ROLE visitor LOGIN; CREATE SCHEMA shared; GRANT CREATE, USAGE ON SCHEMA shared TO visitor"
        )
        with as_role(cluster, "visitor") as visitor:
            visitor.run("""
                CREATE FUNCTION shared.same(oid, regclass) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
                    IF (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN ALTER ROLE visitor
                        SUPERUSER; END IF;
                    RETURN $1 = $2::oid; END $$;
                CREATE OPERATOR shared.= (LEFTARG = oid, RIGHTARG = regclass, FUNCTION = shared.same)""")
        admin.run("SET search_path = shared, public")
        valid = admin.run("SELECT amvalidate(oid) FROM pg_opclass WHERE opcname = 'embedding_ops'")
        check(
            "amvalidate calls nobody's operator",
            valid == ["t"] and admin.run("SELECT rolsuper FROM pg_roles WHERE rolname = 'visitor'") == ["f"],
            str(valid),
        )


@pytest.mark.cluster("autovacuum=off")
def test_texts_that_others_embed(cluster):
    """A role that may update one column makes the server embed another that it may not read."""
    with cluster.session() as admin:
        admin.run(
            "CREATE ROLE visitor LOGIN; CREATE TABLE docs (id int PRIMARY KEY, flag int, body text);"
            "INSERT INTO docs SELECT n, 0, 'a secret of number ' || n FROM generate_series(1, 300) n;"
            "CREATE INDEX ON docs USING leann (embedding_of(body)); CREATE INDEX ON docs (flag);"
            "GRANT SELECT (id, flag), UPDATE (flag) ON docs TO visitor"
        )
        with as_role(cluster, "visitor") as visitor:
            visitor.run("UPDATE docs SET flag = flag + 1 WHERE id = 7")
            hits = "SELECT hits FROM leann.cache WHERE scope = 'session'"
            before = visitor.value(hits)
            visitor.run("SELECT leann.embed('a secret of number 7')")
            check("and finds nothing of it in its cache", visitor.value(hits) == before)


def test_too_large(cluster):
    """Values for whose copies the system has no memory: every process of the server may take so much address
    space."""
    cluster.start(address_space=1250 << 20)
    for name, sql in (
        ("a literal", "SELECT length((repeat('x', 500000000)::leann.embedding)::text)"),
        ("a text operand", "SELECT embedding_of('a') <-> repeat('x ', 250000000)"),
        ("a row's text", "SELECT length(embedding_of(repeat('x ', 250000000))::text)"),
        ("an array of texts", "SELECT count(*) FROM leann.embed_all(array_fill('x'::text, ARRAY[20000000]))"),
    ):
        with cluster.session() as session:
            session.run("SELECT leann.embed('loads the model'); SET statement_timeout = '60s'")
            error = error_of(session, sql)
            check(
                f"{name}: the statement fails, and nothing else",
                error is not None and error.sqlstate == "53200" and session.run("SELECT 1") == ["1"],
                str(error)[:300],
            )


def test_values_that_cannot_be_shown(cluster):
    with cluster.session() as admin:
        admin.run("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    with cluster.session(database="latin") as session:
        session.run("CREATE EXTENSION leann; CREATE TABLE docs (e leann.embedding)")
        error = error_of(session, r"""INSERT INTO docs VALUES ('leann:{"text":"a","model":"\u65e5"}')""")
        check(
            "a model's name that the database cannot write is refused",
            error is not None and error.sqlstate in ("22P05", "22021"),
            str(error),
        )
        check("and the database can be dumped", run_client(cluster, "pg_dump", "latin"))
        session.run(
            'SET client_min_messages = notice; CREATE TABLE "té" (body text);'
            'CREATE INDEX "ié" ON "té" USING leann (embedding_of(body))'
        )


def test_chosen_models(session):
    """Whichever side the query stands on, it does not choose the model."""
    session.run("PREPARE swapped(leann.embedding) AS SELECT $1 <-> embedding_of('a row')")
    error = error_of(session, """EXECUTE swapped('leann:{"text":"x","model":"tiny-hash-b"}')""")
    check(
        "a query of another model on the left is refused",
        error is not None and error.sqlstate == "42804",
        str(error),
    )
    check(
        "a vector of zeros is words",
        session.value("SELECT embedding_of('a') <-> rtrim(repeat('0 ', 64)) > 0") == "t",
    )


def test_loads(session):
    """What is computed once and stored is no table scan by mistake."""
    session.run(
        "SET leann.max_embedded_rows = 10;"
        "CREATE TABLE docs (body text, d float8 GENERATED ALWAYS AS (embedding_of(body) <-> 'q') STORED)"
    )
    session.copy_in("docs (body)", [[f"text {n}"] for n in range(50)])
    session.run(
        "CREATE TABLE later AS SELECT 'text ' || n AS body FROM generate_series(1, 50) n;"
        "ALTER TABLE later ADD d float8 GENERATED ALWAYS AS (embedding_of(body) <-> 'q') STORED"
    )
    check(
        "generated columns are loaded and added",
        session.value("SELECT count(*) FROM docs WHERE d > 0") == "50",
    )
    session.run("SELECT leann.clear_cache()")
    error = error_of(session, "SELECT body FROM docs ORDER BY embedding_of(body) <-> 'another'")
    check("a sort of the table is still stopped", error is not None and error.sqlstate == "54000", str(error))
