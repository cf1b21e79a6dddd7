"""CREATE INDEX CONCURRENTLY and REINDEX CONCURRENTLY while others insert, update (HOT too), delete and
vacuum, with whole regions emptied and refilled so that splits take recycled pages during sweeps. Afterwards
every index points to each row once and to nothing else. LEANN_SOAK=1: for minutes."""

import random
import threading
import time
from typing import ClassVar

import pytest

from pg import SqlError
from support.checks import SOAK, check, note
from support.index import faults, heap_ids, index_ids
from support.pages import FREE, NODE, blocks_of_kind, same_pointers
from support.texts import sentence

SECONDS = 600 if SOAK else 20
TOPICS = 12
BASE_ROWS = 4000


class Client(threading.Thread):
    """Repeats a piece of work until told to stop; what went wrong is in `errors`."""

    errors: ClassVar[list[str]] = []

    def __init__(self, cluster, name, until, work, pause=0.0, seed=0):
        super().__init__()
        self.session, self.until, self.work, self.pause = cluster.session(name=name), until, work, pause
        self.random, self.done = random.Random(seed), 0
        self.name = name

    def run(self):
        while time.monotonic() < self.until:
            try:
                self.work(self)
                self.done += 1
            except SqlError as error:
                # A concurrent build waits for older transactions, and a VACUUM for it: one of them may lose.
                if error.sqlstate not in ("40P01", "55P03"):
                    Client.errors.append(f"{self.name}: {error}")
                self.session.run("ROLLBACK")
            except Exception as error:  # whatever it is, the test is to fail and not to hang
                Client.errors.append(f"{self.name}: {error!r}")
                return
            time.sleep(self.pause)
        self.session.close()


def about(chooser, topic):
    """A text of a topic: half of its words are the topic's, so that rows of one topic share pages."""
    return f"topic{topic} " * 4 + sentence(chooser, 4)


def fill(client):
    """Inserts rows of one topic: enough to split its pages."""
    topic = client.random.randrange(TOPICS)
    rows = ", ".join(f"('{about(client.random, topic)}', {topic})" for _ in range(60))
    client.session.run(f"INSERT INTO docs (body, topic) VALUES {rows}", 60)


def empty(client):
    """Deletes all rows of a topic, which empties pages."""
    topic = client.random.randrange(TOPICS)
    client.session.run(f"DELETE FROM docs WHERE topic = {topic}", 60)


def update(client):
    number = client.random.randrange(BASE_ROWS * 2)
    client.session.run(
        f"UPDATE docs SET note = note + 1 WHERE id BETWEEN {number} AND {number + 20}", 60
    )  # HOT, mostly
    client.session.run(
        f"UPDATE docs SET body = '{sentence(client.random)}', topic = NULL WHERE id = {number}", 60
    )


def roll_back(client):
    client.session.run("BEGIN")
    fill(client)
    client.session.run("ROLLBACK")


def vacuum(client):
    client.session.run("VACUUM docs", 120)


def rebuild(client):
    """In turn: REINDEX CONCURRENTLY, and a second index created and dropped concurrently."""
    try:
        if client.done % 2 == 0:
            client.session.run("REINDEX INDEX CONCURRENTLY docs_embedding", 300)
        else:
            client.session.run("DROP INDEX IF EXISTS second")
            client.session.run(
                "CREATE INDEX CONCURRENTLY second ON docs USING leann (embedding_of(body))", 300
            )
    finally:
        # What a rebuild that failed has left is invalid, and is only in the way.
        for (name,) in client.session.rows("SELECT relname FROM pg_class WHERE relname ~ '_ccnew|_ccold'"):
            client.session.run(f'DROP INDEX "{name}"')


def prepare(session):
    chooser = random.Random(1)
    session.run(
        "CREATE TABLE docs (id serial PRIMARY KEY, body text, topic int, note int DEFAULT 0) WITH"
        " (fillfactor = 70)"
    )
    session.copy_in(
        "docs (body, topic)", [[about(chooser, n % TOPICS), str(n % TOPICS)] for n in range(BASE_ROWS)]
    )
    session.run("CREATE INDEX docs_embedding ON docs USING leann (embedding_of(body))")


@pytest.mark.cluster("autovacuum=off", "shared_buffers=64MB", "deadlock_timeout=200ms")
def test_under_load(cluster):
    with cluster.session() as session:
        prepare(session)
    until = time.monotonic() + SECONDS
    clients = [
        Client(cluster, f"{work.__name__} {seed}", until, work, pause, seed)
        for seed, (work, pause) in enumerate(
            [
                (fill, 0.02),
                (fill, 0.02),
                (empty, 0.5),
                (update, 0.01),
                (roll_back, 0.3),
                (vacuum, 0.05),
                (vacuum, 0.3),
                (rebuild, 0.05),
            ]
        )
    ]
    for client in clients:
        client.start()
    for client in clients:
        client.join(SECONDS + 400)
    check("no client failed", not Client.errors, "\n    ".join(Client.errors[:5]))
    rounds = {client.name: client.done for client in clients}
    note(f"rounds: {rounds}")
    check("all were at work", all(rounds.values()), str(rounds))
    with cluster.session() as session:
        hot = int(session.value("SELECT n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'docs'"))
        check("some updates were HOT", hot > 0)
        for (index,) in session.rows(
            "SELECT indexrelid::regclass FROM pg_index JOIN pg_class ON oid = indexrelid"
            " WHERE relam = (SELECT oid FROM pg_am WHERE amname = 'leann') AND indisvalid"
        ):
            check(f"{index}: leann.check is clean", not faults(session, index))
            same_pointers(f"{index}: it points to each row once, and to nothing else", session, index)


@pytest.mark.cluster("autovacuum=off", "vacuum_cost_delay=2ms", "vacuum_cost_limit=20")
def test_pages_recycled_in_a_sweep(cluster, session):
    """A sweep meets every node though splits take pages that an earlier VACUUM had freed."""
    with cluster.session(name="writer") as writer:
        prepare(session)
        chooser, used_again = random.Random(2), 0
        for number in range(20 if SOAK else 4):
            session.run(
                f"DELETE FROM docs WHERE topic % 3 = {number % 3}; SET vacuum_cost_delay = 0; VACUUM docs;"
                "SELECT txid_current(); VACUUM docs"
            )  # a page is used again once no older transaction is left
            free = blocks_of_kind(session, "docs_embedding", FREE)
            # A slow sweep, and splits in its way.
            session.run("DELETE FROM docs WHERE id % 5 = 0; RESET vacuum_cost_delay")
            session.send("VACUUM docs")
            batches = 0
            while not session.answered(0.0) or batches < 10:
                topic = chooser.randrange(number % 3, TOPICS, 3)
                rows = ", ".join(f"('{about(chooser, topic)}', {topic})" for _ in range(60))
                writer.run(f"INSERT INTO docs (body, topic) VALUES {rows}")
                batches += 1
                if batches == 200:
                    break
            session.finish(120)
            session.run("SET vacuum_cost_delay = 0; VACUUM docs")
            used_again += len(free & blocks_of_kind(session, "docs_embedding", NODE))
            check(f"round {number + 1}: leann.check is clean", not faults(session))
            same_pointers(
                f"round {number + 1}: the index points to each row once, and to nothing else", session
            )
        check("freed pages were used again", used_again > 0)
        check("the ordered scan agrees", index_ids(session) == heap_ids(session))
