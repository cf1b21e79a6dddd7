"""kill -9 of the whole server in the midst of inserts, updates, deletes, VACUUM, builds and REINDEX; then
recovery, leann.check, and every committed row is found. Unlogged tables come back empty and usable.
LEANN_SOAK=1: 50 rounds."""

import random
import threading
import time

import pytest

from pg import Lost, SqlError
from support.checks import SOAK, check, note
from support.index import faults, found_by_own_text, heap_ids, same_rows
from support.pages import same_pointers
from support.texts import SQL_SENTENCE, sentence

ROUNDS = 50 if SOAK else 5
THIN_OUT_EVERY = 10  # rounds
WRITERS = 3
# What else is under way when the server dies, in turn.
MEANWHILE = (
    "SELECT 1",
    "VACUUM docs",
    "REINDEX INDEX docs_embedding",
    "CREATE INDEX CONCURRENTLY second ON docs USING leann (embedding_of(body))",
    "REINDEX INDEX CONCURRENTLY docs_embedding",
)


class Writer(threading.Thread):
    """Writes in a loop and remembers what was committed: the text of each id, or None for a deleted one."""

    def __init__(self, cluster, number, seed):
        super().__init__()
        self.session = cluster.session(name=f"writer {number}")
        self.random = random.Random(seed)
        self.first_id = number * 1_000_000 + seed * 10_000
        self.committed = {}
        self.doubtful = set()  # ids of the transaction that was under way when the server died

    def run(self):
        next_id = self.first_id
        try:
            while True:
                change, sql = {}, ["BEGIN"]
                for _ in range(self.random.randint(1, 6)):
                    known = [
                        number for number, body in {**self.committed, **change}.items() if body is not None
                    ]
                    action = self.random.random()
                    if not known or action < 0.7:
                        body = sentence(self.random)
                        sql.append(f"INSERT INTO docs VALUES ({next_id}, '{body}')")
                        change[next_id] = body
                        next_id += 1
                    elif action < 0.9:
                        number, body = self.random.choice(known), sentence(self.random)
                        sql.append(f"UPDATE docs SET body = '{body}' WHERE id = {number}")
                        change[number] = body
                    else:
                        number = self.random.choice(known)
                        sql.append(f"DELETE FROM docs WHERE id = {number}")
                        change[number] = None
                commit = self.random.random() < 0.9
                sql.append("COMMIT" if commit else "ROLLBACK")
                self.doubtful = set(change)
                self.session.run("; ".join(sql), 60)
                if commit:
                    self.committed.update(change)
                self.doubtful = set()
        except (Lost, SqlError, TimeoutError, OSError, ValueError):
            pass


def clear_away(cluster):
    """Drops what a concurrent build that died has left: it is invalid, but would make later ones slower."""
    with cluster.session() as session:
        for (name,) in session.rows(
            "SELECT relname FROM pg_class WHERE relname ~ '_ccnew|_ccold' OR relname = 'second'"
        ):
            session.run(f'DROP INDEX "{name}"')


def thin_out(cluster, writers):
    """Nine of ten rows go, so that later rounds take no longer than the first ones, and write into freed
    pages."""
    with cluster.session() as session:
        session.run("DELETE FROM docs WHERE id % 10 <> 0; VACUUM docs", 600)
    for writer in writers:
        writer.committed = {
            number: None if number % 10 else body for number, body in writer.committed.items()
        }


def compare(name, cluster, writers):
    """After recovery: the table is what was committed, the index is sound and holds the same rows."""
    with cluster.session() as session:
        table = {
            int(number): body
            for number, body in session.rows("SELECT id, body FROM docs WHERE id >= 1000000")
        }
        wrong = []
        for writer in writers:
            for number, body in writer.committed.items():
                if number not in writer.doubtful and table.get(number) != body:
                    wrong.append(number)
        check(f"{name}: committed rows are in the table", not wrong, f"{wrong[:20]}")
        found = faults(session)
        check(f"{name}: leann.check is clean", not found, "; ".join(found[:5]))
        same_rows(f"{name}: the index holds exactly the table's rows", session)
        same_pointers(f"{name}: it points to each row once, and to nothing else", session)
        ids = heap_ids(session)
        missing = found_by_own_text(session, random.Random(1).sample(ids, min(len(ids), 150)))
        check(f"{name}: rows are found by their own text", not missing, f"{missing[:20]}")


@pytest.mark.cluster(
    "wal_level=replica", "checkpoint_timeout=30s", "max_wal_size=64MB", "leann.patience=1000"
)
def test_inserts(cluster):
    # (With the patience that finds any row: what is tested is that the rows are there, not how soon a walk
    # gives up.)
    with cluster.session() as session:
        session.run(
            "CREATE TABLE docs (id int PRIMARY KEY, body text);"
            "CREATE INDEX docs_embedding ON docs USING leann (embedding_of(body));" + SQL_SENTENCE
        )
        session.run("INSERT INTO docs SELECT n, sentence(n) FROM generate_series(1, 400) n")
    all_writers = []
    for round_number in range(ROUNDS):
        writers = [Writer(cluster, number + 1, round_number) for number in range(WRITERS)]
        other = cluster.session(name="other")
        for writer in writers:
            writer.start()
        time.sleep(1.5 + round_number % 5 / 2)
        meanwhile = MEANWHILE[round_number % len(MEANWHILE)]
        other.send(meanwhile)
        time.sleep(0.05 * (round_number % 7))
        cluster.kill()
        for writer in writers:
            writer.join(60)
            writer.session.close()
        other.close()
        cluster.start()
        all_writers += writers
        clear_away(cluster)
        note(f"round {round_number}: killed in {meanwhile!r}")
        written = sum(len(writer.committed) for writer in writers)
        check(f"round {round_number}: {WRITERS} writers were at work", written > 20, f"{written} rows")
        compare(f"round {round_number}", cluster, all_writers)
        if round_number % THIN_OUT_EVERY == THIN_OUT_EVERY - 1:
            thin_out(cluster, all_writers)
    with cluster.session() as session:
        session.run("DELETE FROM docs WHERE id % 3 = 0; VACUUM docs")
        check("afterwards VACUUM leaves a sound index", not faults(session))
        same_rows("afterwards the index holds exactly the table's rows", session)


def cut_off(session):
    """Whether the server died before the statement under way had come to its end (killing takes a moment)."""
    try:
        session.finish(60)
    except SqlError:
        return True
    return False


def test_build(cluster):
    """Killed during CREATE INDEX and REINDEX: the table is whole, a new build works, REINDEX leaves the old
    index."""
    with cluster.session() as session:
        session.run(SQL_SENTENCE)
        session.run(
            "CREATE TABLE docs (id int PRIMARY KEY, body text);"
            "INSERT INTO docs SELECT n, sentence(n) FROM generate_series(1, 20000) n"
        )
        begin = time.monotonic()
        session.run("CREATE INDEX docs_embedding ON docs USING leann (embedding_of(body))", 600)
        whole = time.monotonic() - begin
        session.run("DROP INDEX docs_embedding")
    for share in (0.1, 0.5, 0.9):
        session = cluster.session()
        session.send("CREATE INDEX docs_embedding ON docs USING leann (embedding_of(body))")
        session.answered(whole * share)
        cluster.kill()
        early = cut_off(session)
        session.close()
        cluster.start()
        with cluster.session() as session:
            there = session.value("SELECT count(*) FROM pg_class WHERE relname = 'docs_embedding'")
            if early:
                check(f"killed at {share:.0%} of a build: no index is left", there == "0")
            session.run("DROP INDEX IF EXISTS docs_embedding")
    with cluster.session() as session:
        session.run("CREATE INDEX docs_embedding ON docs USING leann (embedding_of(body))", 600)
        check("a build after that is sound", not faults(session))
    session = cluster.session()
    session.send("REINDEX INDEX docs_embedding")
    session.answered(whole * 0.6)
    cluster.kill()
    session.close()
    cluster.start()
    with cluster.session() as session:
        check("killed in REINDEX: the index is sound", not faults(session))
        missing = found_by_own_text(session, range(1, 20000, 997))
        check("killed in REINDEX: rows are found", not missing, f"{missing}")
        # Right after a build everything in it must be on disk or in the WAL.
        session.run("REINDEX INDEX docs_embedding", 600)
    cluster.kill()
    cluster.start()
    with cluster.session() as session:
        check("killed right after REINDEX: the index is sound", not faults(session))
        same_rows("killed right after REINDEX: it holds exactly the table's rows", session)


def test_unlogged(cluster):
    with cluster.session() as session:
        session.run(SQL_SENTENCE)
        session.run(
            "CREATE UNLOGGED TABLE docs (id int PRIMARY KEY, body text);"
            "CREATE INDEX docs_embedding ON docs USING leann (embedding_of(body));"
            "INSERT INTO docs SELECT n, sentence(n) FROM generate_series(1, 2000) n;"
            "CREATE UNLOGGED TABLE filled AS SELECT id, body FROM docs;"
            "CREATE INDEX filled_embedding ON filled USING leann (embedding_of(body))"
        )
    cluster.kill()
    cluster.start()
    with cluster.session() as session:
        check("unlogged: the table is empty", session.value("SELECT count(*) FROM docs") == "0")
        check("unlogged: the index is sound", not faults(session) and not faults(session, "filled_embedding"))
        session.run(
            "INSERT INTO docs SELECT n, sentence(n) FROM generate_series(1, 500) n;"
            "INSERT INTO filled SELECT n, sentence(n) FROM generate_series(1, 500) n"
        )
        same_rows("unlogged: it fills again", session)
        check("unlogged: it is sound then", not faults(session) and not faults(session, "filled_embedding"))
        session.run("CHECKPOINT")
    cluster.stop("fast")
    cluster.start()
    with cluster.session() as session:
        check("unlogged: a clean restart keeps it", session.value("SELECT count(*) FROM docs") == "500")
        same_rows("unlogged: and its index", session)
