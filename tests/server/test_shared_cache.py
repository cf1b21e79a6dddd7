"""The server-wide cache: what one session embedded the next one finds, within a role and a database and not
beyond; many sessions at once; a cache too small for anything; a crash, after which it begins empty."""

import pytest

from support.checks import check, check_refused
from support.index import faults, same_rows
from support.texts import SQL_SENTENCE
from support.threads import run_together

TEXTS = "(SELECT array_agg('text number ' || n) FROM generate_series(1, 50) n)"


def caches(session):
    """{scope: (limit, bytes, lookups, hits)}"""
    return {row[0]: tuple(map(int, row[1:])) for row in session.rows("SELECT * FROM leann.cache")}


def forget(session):
    """Empties the session's cache and not the server's, as DISCARD ALL does, and for others than superusers
    leann.clear_cache too."""
    superuser = session.value("SELECT rolsuper FROM pg_roles WHERE rolname = current_user") == "t"
    session.run("DISCARD ALL" if superuser else "SELECT leann.clear_cache()")


def hits_of(session):
    """How many of fifty texts the server's cache has for this session."""
    forget(session)
    before = caches(session)["server"]
    vectors = session.value(
        f"SELECT md5(array_agg(v ORDER BY n)::text) FROM leann.embed_all({TEXTS}) WITH ORDINALITY AS e(v, n)"
    )
    after = caches(session)["server"]
    return after[3] - before[3], after[2] - before[2], vectors


@pytest.mark.cluster("shared_preload_libraries=leann", "leann.shared_cache_size=4MB")
def test_shared(cluster):
    with cluster.session(name="one") as one, cluster.session(name="two") as two:
        first = hits_of(one)
        check("the first session embeds", first[0] == 0, str(first))
        second = hits_of(two)
        check(
            "the second finds it all, the same to the bit",
            second[0] == 50 and second[2] == first[2],
            str((first, second)),
        )
        check(
            "what the session has itself is not asked of the server",
            caches(two)["session"][3] >= 0
            and two.run(f"SELECT count(*) FROM leann.embed_all({TEXTS})") == ["50"]
            and caches(two)["server"][2] == 100,
            str(caches(two)),
        )
        one.run("CREATE ROLE reader; GRANT pg_read_all_stats TO reader; CREATE ROLE stranger")
        two.run("SET ROLE reader")
        check("another role finds nothing of it", hits_of(two)[0] == 0)
        check("but its own", hits_of(two)[0] == 50)
        two.run("RESET ROLE")
        one.run("CREATE DATABASE other")
    with cluster.session(database="other") as other:
        other.run("CREATE EXTENSION leann")
        check("another database finds nothing of it", hits_of(other)[0] == 0)
    with cluster.session() as session:
        session.run("CREATE TABLE docs (id int PRIMARY KEY, body text);" + SQL_SENTENCE)
        session.run(
            "INSERT INTO docs SELECT n, sentence(n) FROM generate_series(1, 2000) n;"
            "CREATE INDEX docs_embedding ON docs USING leann (embedding_of(body))",
            120,
        )
    with cluster.session(name="fresh") as fresh:
        fresh.run("SET enable_seqscan = off")
        scan = search(fresh)
        check("a build leaves nothing in the server's cache", scan[0] > 0, str(scan))
    with cluster.session(name="fresh again") as fresh:
        fresh.run("SET enable_seqscan = off")
        scan = search(fresh)
        check(
            "a fresh session's scan uses what another one's embedded", scan[0] == 0 and scan[1] > 0, str(scan)
        )
        cold = fresh.row("SELECT sum(recomputes)::int FROM leann.recall('docs_embedding', ARRAY['ab cd'], 5)")
        check("leann.recall measures without it", int(cold[0]) > 0, str(cold))
    from_loads(cluster)
    hidden_rows(cluster)
    who_sees_and_clears(cluster)
    from_many_sessions(cluster)
    cluster.kill()
    cluster.start()
    with cluster.session() as session:
        check("after a crash it begins empty", hits_of(session)[0] == 0)
        same_rows("and the index is as it was", session)


def search(session):
    """(recomputes, cache hits) of one search."""
    session.rows("SELECT id FROM docs ORDER BY embedding_of(body) <-> 'ab cd' LIMIT 5")
    return tuple(map(int, session.row("SELECT recomputes, cache_hits FROM leann.last_scan()")))


def from_loads(cluster):
    """Loading rows does not wash out what is searched for."""
    with cluster.session(name="loads") as session:
        session.run(
            "CREATE TABLE loaded (id int, body text); CREATE INDEX ON loaded USING leann (embedding_of(body))"
        )
        before = caches(session)["server"][1]
        session.run("INSERT INTO loaded SELECT n, 'loaded text ' || n FROM generate_series(1, 500) n", 120)
        check("inserted rows are not kept for the server", caches(session)["server"][1] == before)
        session.run("DISCARD ALL")
        session.run(
            "SELECT count(*) FROM leann.embed_all((SELECT array_agg('loaded text ' || n)"
            " FROM generate_series(1, 50) n))"
        )
        check("DISCARD ALL leaves the server's cache alone", caches(session)["server"][1] > before)
        vectors = "(SELECT array_agg('loaded text ' || n) FROM generate_series(1, 50) n)"
        session.run(
            "DISCARD ALL; INSERT INTO loaded SELECT n, 'loaded text ' || n FROM generate_series(1, 50) n", 120
        )
        check(
            "what the server has, an insert does not compute",
            caches(session)["session"][1] > 0
            and session.value(f"SELECT count(*) FROM leann.embed_all({vectors})") == "50"
            and caches(session)["session"][3] >= 50,
        )


def hidden_rows(cluster):
    """What a search under row security embeds is not found by the same role in any session."""
    with cluster.session(name="owner") as session:
        session.run(
            "CREATE TABLE notes (id int, owner text, body text);"
            "INSERT INTO notes SELECT n, CASE WHEN n = 1 THEN 'reader' ELSE 'x' END, 'note number ' || n"
            " FROM generate_series(1, 50) n;"
            "CREATE INDEX ON notes USING leann (embedding_of(body));"
            "ALTER TABLE notes ENABLE ROW LEVEL SECURITY; GRANT SELECT ON notes TO reader;"
            "CREATE POLICY own ON notes USING (owner = current_user)"
        )
    texts = "(SELECT array_agg('note number ' || n) FROM generate_series(2, 50) n)"
    with cluster.session(name="reads") as session:
        session.run("SET ROLE reader; SET enable_seqscan = off; SET enable_sort = off")
        found = session.rows("SELECT id FROM notes ORDER BY embedding_of(body) <-> 'note number 7' LIMIT 100")
        check("row security holds", found == [["1"]], str(found))
    with cluster.session(name="guesses") as session:
        before = caches(session)["server"][3]
        session.run("SET ROLE reader")
        session.run(f"SELECT count(*) FROM leann.embed_all({texts})")
        check("hidden rows left nothing in the server's cache", caches(session)["server"][3] == before)


def who_sees_and_clears(cluster):
    """All users' figures are for who may see them; a superuser empties the cache, others only their
    session's."""
    with cluster.session(name="sees") as session:
        hits_of(session)
        session.run("SET ROLE stranger")
        seen = session.rows("SELECT lookups, hits, bytes FROM leann.cache WHERE scope = 'server'")
        check("others do not see what all users do", seen == [[None] * 3], str(seen))
        session.run("SELECT leann.clear_cache(); RESET ROLE")
        check("others do not empty the server's cache", caches(session)["server"][1] > 0)
        session.run("SELECT leann.clear_cache()")
        check("a superuser does", caches(session)["server"][1] == 0)
        check("and it goes on", hits_of(session)[0] == 0 and caches(session)["server"][1] > 0)


def from_many_sessions(cluster):
    """More text than the cache holds, from several sessions at once: each vector is that of its text."""
    wrong = []

    def work(number):
        with cluster.session(name=f"many {number}") as session:
            session.run("SET leann.cache_size = '64kB'")
            for at in range(12):
                rows = session.rows(
                    "SELECT n, embedding_of(sentence(n)) <#> leann.embed(sentence(n))"
                    f" FROM generate_series({at * 400}, {at * 400 + 800}) n"
                )
                wrong.extend(row for row in rows if abs(float(row[1]) + 1) > 1e-5)

    wrong += run_together(*((work, number) for number in range(4)))
    check("from many sessions at once every vector is its text's", not wrong, str(wrong[:3]))
    with cluster.session() as session:
        limit, used, lookups, hits = caches(session)["server"]
        check(
            "it keeps to its size and is of use",
            used <= limit <= 4 << 20 and 0 < hits < lookups,
            str((limit, used, lookups, hits)),
        )


@pytest.mark.cluster("shared_preload_libraries=leann", "leann.shared_cache_size=0")
def test_of_no_size(session):
    session.run(f"SELECT count(*) FROM leann.embed_all({TEXTS})")
    check("size 0: there is none", list(caches(session)) == ["session"])
    check_refused(
        "its size is a matter of the server's start",
        session,
        "SET leann.shared_cache_size = '1MB'",
        "55P02",
    )


@pytest.mark.cluster("shared_preload_libraries=leann", "leann.shared_cache_size=1kB")
def test_too_small_for_anything(session):
    session.run(f"SELECT count(*) FROM leann.embed_all({TEXTS})")
    check("too small for anything: it does no harm", hits_of(session)[0] == 0)


def test_not_preloaded(session):
    session.run(f"SELECT count(*) FROM leann.embed_all({TEXTS})")
    check("not preloaded: there is none", list(caches(session)) == ["session"])
    session.run(
        "CREATE TABLE docs (body text); CREATE INDEX docs_embedding ON docs USING leann (embedding_of(body))"
    )
    check("and all works as before", not faults(session))
