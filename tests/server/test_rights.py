"""What ordinary users cannot do to the server: start more threads than a superuser allows, learn where it
keeps its files. And what an administrator can: size the server-wide cache before the library is preloaded."""

import os
import time

from support.checks import check, said_by
from support.models import put_model

TEXTS = "(SELECT array_agg('text ' || n || repeat(' and more words', 20)) FROM generate_series(1, {}) n)"


def most_threads(session, sql):
    """The most threads that the session's backend had at once while it ran a statement. One seen in a single
    look may be on its way out: the kernel takes a thread off its list a moment after it has been joined."""
    session.send(sql)
    most = last = 0
    while not session.answered(0.002):
        now = len(os.listdir(f"/proc/{session.pid}/task"))
        most, last = max(most, min(last, now)), now
    session.finish()
    return most


def test_threads(session):
    session.run(
        "CREATE ROLE visitor; GRANT CREATE ON SCHEMA public TO visitor; SET leann.max_threads = 2;"
        "SET ROLE visitor; SET leann.threads = 32"
    )
    session.run("SELECT leann.embed('loads the model')")
    count = most_threads(session, f"SELECT count(*) FROM leann.embed_all({TEXTS.format(4000)})")
    check(
        "leann.embed keeps to leann.max_threads",
        2 <= count <= 3,
        f"{count} threads, the backend's own included",
    )
    session.run(
        "CREATE TABLE docs (body text); INSERT INTO docs SELECT 'text ' || n || repeat(' and more words',"
        " 20) FROM generate_series(1, 4000) n"
    )
    count = most_threads(session, "CREATE INDEX ON docs USING leann (embedding_of(body))")
    check(
        "so does a build, but for one thread that waits for the others", 2 <= count <= 4, f"{count} threads"
    )
    session.run(
        "SELECT leann.clear_cache(); SET enable_seqscan = off; SET leann.expected_rows = 1000;"
        "SET leann.recompute_batch = 64"
    )
    count = most_threads(
        session,
        "SELECT count(*) FROM"
        " (SELECT 1 FROM docs ORDER BY embedding_of(body) <-> 'words' LIMIT 2000) AS near",
    )
    check("so does a search", 2 <= count <= 3, f"{count} threads")
    session.run("RESET ROLE; SET leann.max_threads = 6; SET ROLE visitor; SELECT leann.clear_cache()")
    count = most_threads(session, f"SELECT count(*) FROM leann.embed_all({TEXTS.format(8000)})")
    check("a larger maximum allows more", 4 <= count <= 7, f"{count} threads")


def test_paths(session, open_folder):
    """A model that is refused by the ONNX Runtime itself, for a node of a kind that there is not."""
    directory = open_folder / "leann-secret-place"
    directory.mkdir()
    model = put_model(directory, "broken") / "model.onnx"
    good = model.read_bytes()
    bad = good.replace(b"Gather", b"Gathex")
    assert bad != good
    model.write_bytes(bad)
    session.run(f"CREATE ROLE visitor; SET leann.model_dir = '{directory}'")
    said = said_by(session, "SELECT leann.embed('a', 'broken')")
    check("a superuser is told which file it is", "broken/model.onnx" in said, said)
    session.run("SET ROLE visitor")
    said = said_by(session, "SELECT leann.embed('a', 'broken')")
    check(
        "others are told which, and why it is refused",
        "broken/model.onnx" in said and "Gathex" in said,
        said,
    )
    check("but not where", "leann-secret-place" not in said, said)
    listed = str(session.rows("SELECT * FROM leann.models"))
    check("the view does not tell either", "leann-secret-place" not in listed, listed)


def test_cache_before_preload(cluster):
    with cluster.session() as session:
        session.run("LOAD 'leann'")
        session.run("ALTER SYSTEM SET leann.shared_cache_size = '3MB'")
        session.run("ALTER SYSTEM SET shared_preload_libraries = leann")
        said = said_by(session, "SET leann.shared_cache_size = '1MB'")
        check("a session cannot set it", "55P02" in said, said)
        session.run("SELECT pg_reload_conf()")
        session.run("SELECT leann.embed('works on')")
    cluster.stop()
    cluster.start()
    with cluster.session() as session:
        check("one restart takes both", session.run("SHOW leann.shared_cache_size") == ["3MB"])
        limit = int(session.value("SELECT limit_bytes FROM leann.cache WHERE scope = 'server'"))
        check("and the cache has that size", 0.8 * (3 << 20) < limit <= 3 << 20, str(limit))
        session.run("ALTER SYSTEM RESET shared_preload_libraries")
    cluster.stop()
    cluster.start()
    with cluster.session() as session:
        session.run("SELECT leann.embed('without it')")
        log = cluster.log()
        check(
            "without the library the setting left behind does no harm",
            "invalid configuration parameter" not in log,
        )
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline and session.value("SELECT count(*) FROM leann.cache") != "1":
            time.sleep(0.1)
        check("and there is no such cache", session.value("SELECT count(*) FROM leann.cache") == "1")
