"""Good manners: no symbol that could clash with another extension's, progress that moves and ends at its
total, VACUUM without the model, nothing written into a home directory and no thread left behind by the ONNX
Runtime."""

import os
import re
import subprocess
import time

from cluster import pg_config
from support.checks import check
from support.index import faults
from support.processes import threads
from support.texts import SQL_SENTENCE


def test_exported_symbols():
    library = pg_config("--pkglibdir") + "/leann.so"
    command = ["nm", "-D", "--defined-only", library]
    listing = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    names = [line.split()[-1] for line in listing.splitlines()]
    foreign = [
        name for name in names if not re.fullmatch(r"Pg_magic_func|_PG_init|pg_finfo_\w+|\w+_wrapper", name)
    ]
    check(
        "the library exports only what Postgres looks for", len(names) > 20 and not foreign, str(foreign[:20])
    )


def test_progress(cluster, session):
    with cluster.session(name="watcher") as watcher:
        session.run(SQL_SENTENCE)
        session.run(
            "CREATE TABLE docs (id int PRIMARY KEY, body text);"
            "INSERT INTO docs SELECT n, sentence(n) FROM generate_series(1, 20000) n; ANALYZE docs",
            600,
        )
        seen = []
        session.send("CREATE INDEX docs_embedding ON docs USING leann (embedding_of(body))")
        while not session.answered(0.01):
            rows = watcher.rows(
                "SELECT phase, tuples_done, tuples_total FROM pg_stat_progress_create_index"
                f" WHERE pid = {session.pid}"
            )
            if rows and rows[0] not in seen:
                seen.append(rows[0])
        session.finish()
        done = [int(row[1]) for row in seen]
        check("the progress view moves", len(set(done)) > 3 and done == sorted(done), str(seen))
        check("and ends at its total", done[-1] == int(seen[-1][2]) == 20000, str(seen[-1]))
        phases = list(dict.fromkeys(row[0] for row in seen))
        check("phases have names", len(phases) >= 2 and all(phases), str(phases))
        statistics = session.row(
            "SELECT reltuples::int, relpages, pg_relation_size(oid) / 8192 FROM pg_class"
            " WHERE relname = 'docs_embedding'"
        )
        check(
            "row and page counts are right after the build",
            statistics[0] == "20000" and statistics[1] == statistics[2],
            str(statistics),
        )
        session.run("DELETE FROM docs WHERE id % 2 = 0; ", 60)
        # VACUUM neither runs a model nor reads rows: there is no model to run.
        watcher.run("SET leann.model_dir = '/tmp'; SET leann.onnxruntime_library = '/nowhere'")
        watcher.run("VACUUM docs", 60)
        check("VACUUM needs no model", not faults(watcher))
        check(
            "and leaves the right count",
            watcher.value("SELECT reltuples::int FROM pg_class WHERE relname = 'docs_embedding'") == "10000",
        )


def sockets(pid):
    """What a process has open in the way of sockets."""
    links = [os.readlink(f"/proc/{pid}/fd/{name}") for name in os.listdir(f"/proc/{pid}/fd")]
    return [link for link in links if link.startswith("socket:")]


def test_the_runtime_keeps_to_itself(cluster, open_folder, monkeypatch):
    home = open_folder
    home.chmod(0o777)
    cluster.stop()
    with monkeypatch.context() as environment:
        for name in ("HOME", "SERVER_HOME", "XDG_CACHE_HOME", "TMPDIR"):
            environment.setenv(name, str(home))
        cluster.start()
    with cluster.session() as session:
        session.run("CREATE TABLE home (path text); COPY home FROM PROGRAM 'printenv HOME'")
        check("the server's home is the one watched", session.value("SELECT path FROM home") == str(home))
        session.run(
            "SET leann.threads = 4;"
            "SELECT leann.embed_all(array_agg('text ' || n)) FROM generate_series(1, 500) n",
            60,
        )
        deadline = time.monotonic() + 5
        while (count := len(threads(session.pid))) > 1 and time.monotonic() < deadline:
            time.sleep(0.05)
        check("no thread is left behind", count == 1, f"{count} threads")
        found = sockets(session.pid)
        with cluster.session(name="plain") as plain:
            plain.run("SELECT 1")
            usual = sockets(plain.pid)
        check(
            "no connection is open",
            len(found) <= len(usual),
            f"{len(found)} sockets, {len(usual)} in a plain session",
        )
    check("nothing is written into a home directory", not os.listdir(home), str(os.listdir(home)))
