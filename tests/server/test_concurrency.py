"""Inserts, updates, deletes, searches and vacuums from many clients at once (pgbench), then: no error,
leann.check clean, and a full ordered scan of the index gives exactly the visible rows. LEANN_SOAK=1: for
minutes, and more clients."""

import re
import subprocess

import pytest

from cluster import program
from support.checks import SOAK, check, error_of, note
from support.index import faults
from support.texts import SQL_SENTENCE

SECONDS = 600 if SOAK else 20
CLIENTS = 12 if SOAK else 6
FAILURE = re.compile(r"aborted|ERROR|FATAL|PANIC")
# search() gives an answer that can be judged in any state of the table: each row once, none before a nearer
# one.
SETUP = """
CREATE FUNCTION search(seed bigint) RETURNS void LANGUAGE plpgsql STABLE SET enable_seqscan = off AS $$
DECLARE
    seen bigint[] := '{}';
    before float8 := -1;
    found record;
BEGIN
    FOR found IN SELECT id, ctid, embedding_of(body) <-> sentence(seed) AS distance
                 FROM docs ORDER BY embedding_of(body) <-> sentence(seed) LIMIT 20 LOOP
        IF found.id = ANY (seen) THEN
            RAISE EXCEPTION 'row % (now at %) was returned twice', found.id, found.ctid;
        END IF;
        IF found.distance < before - 1e-5 THEN
            RAISE EXCEPTION 'row % at distance % came after one at %', found.id, found.distance, before;
        END IF;
        seen := seen || found.id;
        before := found.distance;
    END LOOP;
END $$;
-- The same of those that pass a condition and are within a distance, which it locks.
CREATE FUNCTION filtered(seed bigint) RETURNS void LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
    seen bigint[] := '{}';
    found record;
BEGIN
    FOR found IN SELECT id, note, embedding_of(body) <-> sentence(seed) AS distance FROM docs
                 WHERE note % 2 = 0 AND embedding_of(body) <-> sentence(seed) < 1.2
                 ORDER BY embedding_of(body) <-> sentence(seed) LIMIT 5 FOR UPDATE SKIP LOCKED LOOP
        IF found.id = ANY (seen) OR found.note % 2 <> 0 OR found.distance >= 1.2 THEN
            RAISE EXCEPTION 'row % with note % at distance %', found.id, found.note, found.distance;
        END IF;
        seen := seen || found.id;
    END LOOP;
END $$;
CREATE TABLE docs (id bigserial PRIMARY KEY, body text, note int DEFAULT 0);
INSERT INTO docs (body) SELECT sentence(n) FROM generate_series(1, 3000) n;
CREATE INDEX docs_embedding ON docs USING leann (embedding_of(body));
"""
# Scripts of pgbench, and how often each runs beside the others.
MIX = {
    "insert": (
        3,
        r"""
\set seed random(1, 1000000)
INSERT INTO docs (body) SELECT sentence(:seed + n) FROM generate_series(1, 10) n;
""",
    ),
    "update": (
        3,
        r"""
\set id random(1, 5000)
\set seed random(1, 1000000)
UPDATE docs SET body = sentence(:seed) WHERE id = :id;
UPDATE docs SET note = note + 1 WHERE id = :id;
""",
    ),
    "delete": (
        2,
        r"""
\set id random(1, 5000)
DELETE FROM docs WHERE id BETWEEN :id AND :id + 3;
""",
    ),
    "search": (
        4,
        r"""
\set seed random(1, 1000000)
SELECT search(:seed);
""",
    ),
    "filtered": (
        2,
        r"""
\set seed random(1, 1000000)
SELECT filtered(:seed);
""",
    ),
    "rollback": (
        1,
        r"""
\set seed random(1, 1000000)
BEGIN;
INSERT INTO docs (body) SELECT sentence(:seed + n) FROM generate_series(1, 5) n;
SAVEPOINT s;
INSERT INTO docs (body) VALUES (sentence(:seed));
ROLLBACK TO s;
ROLLBACK;
""",
    ),
}
VACUUM = r"""
VACUUM docs;
\sleep 300 ms
"""


class Load:
    """pgbench with the mix, and another that vacuums meanwhile."""

    def __init__(self, cluster, folder, seconds):
        files = []
        for name, (weight, text) in MIX.items():
            (folder / name).write_text(text)
            files += ["-f", f"{folder / name}@{weight}"]
        (folder / "vacuum").write_text(VACUUM)
        self.commands = [
            self._start(cluster, seconds, "-c", str(CLIENTS), "-j", "2", "-P", "5", *files),
            self._start(cluster, seconds, "-c", "1", "-f", str(folder / "vacuum")),
        ]

    @staticmethod
    def _start(cluster, seconds, *arguments):
        command = [program("pgbench"), "-n", "-T", str(seconds), *arguments, "postgres"]
        merged = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.Popen(command, env=cluster.env, **merged)

    def goes_on(self):
        return self.commands[0].poll() is None

    def finish(self, name):
        """Waits for both, and checks that no client failed."""
        failures, statuses = [], []
        for command in self.commands:
            output, _ = command.communicate()
            failures += [line for line in output.splitlines() if FAILURE.search(line)]
            statuses.append(command.returncode)
            for line in output.splitlines():
                if "tps" in line and not line.startswith("progress"):
                    note(line)
        check(f"{name}: no client failed", not failures and statuses == [0, 0], "\n    ".join(failures[:20]))


def judge(session, name):
    """The index is sound and holds the rows of the table."""
    found = faults(session)
    check(f"{name}: leann.check is clean", not found, "; ".join(found[:5]))
    session.run(
        "SET enable_indexscan = off;"
        "CREATE TABLE in_heap AS SELECT ctid AS t FROM docs WHERE body IS NOT NULL;"
        "RESET enable_indexscan; SET enable_seqscan = off; SET leann.iterative_scan = relaxed_order;"
        "CREATE TABLE in_index AS SELECT ctid AS t FROM docs ORDER BY embedding_of(body) <-> 'any'"
        " LIMIT 10000000;"
        "RESET ALL"
    )
    same = session.run(
        "SELECT (SELECT count(*) FROM in_heap) = (SELECT count(*) FROM in_index),"
        " (SELECT count(*) FROM in_index) = (SELECT count(DISTINCT t) FROM in_index),"
        " (SELECT count(*) FROM (TABLE in_heap EXCEPT TABLE in_index) x)"
    )
    check(f"{name}: index and table hold the same rows, each once", same == ["t|t|0"], str(same))
    session.run("DROP TABLE in_heap, in_index")


@pytest.mark.cluster(
    "autovacuum_naptime=1s",
    "autovacuum_vacuum_threshold=50",
    "autovacuum_vacuum_scale_factor=0.01",
    "shared_buffers=64MB",
)
def test_many_clients(cluster, session, open_folder):
    """First the mix alone, then with rebuilds of the index under the writers."""
    session.run(SQL_SENTENCE + ";" + SETUP)
    Load(cluster, open_folder, SECONDS).finish("mixed load")
    judge(session, "mixed load")

    load = Load(cluster, open_folder, SECONDS // 2)
    rounds = 0
    while rounds < 3 or (SOAK and load.goes_on()):
        rounds += 1
        error = error_of(session, "REINDEX INDEX CONCURRENTLY docs_embedding")
        # A concurrent build may lose a deadlock against VACUUM or another waiter; anything else is a fault.
        if error and error.sqlstate != "40P01":
            raise error
    load.finish("with REINDEX CONCURRENTLY")
    for (name,) in session.rows("SELECT relname FROM pg_class WHERE relname ~ '_ccnew|_ccold'"):
        session.run(f'DROP INDEX "{name}"')
    judge(session, "with REINDEX CONCURRENTLY")
