"""An index made on an empty table, which VACUUM trains in place: statements under way at that moment, a crash
right after it, and a standby that replays it (with the server itself comparing every replayed page)."""

import random
import time

from support.checks import check
from support.clusters import standby_of, tiny_cluster
from support.index import faults, index_ids, nearest, same_rows
from support.pages import same_pointers
from support.texts import SQL_SENTENCE, sentence
from support.threads import run_together

ENOUGH = 4_500  # rows: more than a sketch of 64 dimensions is trained on in place
PREPARED = (
    "CREATE TABLE docs (id serial PRIMARY KEY, body text);"
    "CREATE INDEX docs_embedding ON docs USING leann (embedding_of(body));" + SQL_SENTENCE
)
TRAINED = "SELECT trained FROM leann.index_info('docs_embedding')"
UNTRAINED_ROWS = "SELECT untrained_rows FROM leann.index_info('docs_embedding')"


def insert(session, first, rows):
    session.run(
        f"INSERT INTO docs (body) SELECT sentence({first} + n) FROM generate_series(1, {rows}) n", 600
    )


def sound(session, name):
    found = faults(session)
    check(f"{name}: leann.check is clean", not found, "; ".join(found[:5]))
    same_rows(f"{name}: the index holds exactly the rows", session)
    same_pointers(f"{name}: the index points to each row once", session)


def finds_own_texts(session, name, chooser):
    """Rows of each age are nearest to their own text."""
    rows = session.rows("SELECT id, body FROM docs ORDER BY id")
    chosen = chooser.sample(rows, 40)
    missed = [number for number, body in chosen if nearest(session, body, 1, False)[0][1] > 1e-3]
    check(f"{name}: rows are found by their own text", not missed, str(missed))


def test_statements_under_way():
    """An INSERT that began before meets the trained sketch on its way, and goes on to insert and split."""
    chooser = random.Random(2)
    with tiny_cluster("autovacuum=off", "leann.patience=1000") as cluster, cluster.session() as session:
        session.run(PREPARED)
        insert(session, 0, ENOUGH)
        cluster_times = {}

        def slow_insert():
            with cluster.session(name="slow") as own:
                own.run(
                    "INSERT INTO docs (body) SELECT sentence(100000 + n) || CASE WHEN n = 300 THEN"
                    " pg_sleep(6)::text ELSE '' END FROM generate_series(1, 2500) n",
                    600,
                )
                cluster_times["end"] = time.monotonic()

        def train_and_insert():
            with cluster.session(name="trains") as own:
                time.sleep(1.5)
                own.run("VACUUM docs", 600)
                cluster_times["trained"] = time.monotonic()
                cluster_times["is_trained"] = own.value(TRAINED)
                insert(own, 200_000, 2000)

        def reads():
            with cluster.session(name="reads") as own:
                while "end" not in cluster_times:
                    nearest(own, sentence(chooser, 4), 5, False)

        wrong = run_together((slow_insert,), (train_and_insert,), (reads,))
        check("nothing failed", not wrong, str(wrong))
        check("VACUUM trained the sketch", cluster_times["is_trained"] == "t")
        check("while the INSERT was under way", cluster_times["trained"] < cluster_times["end"] - 1)
        nodes = int(session.value("SELECT count(*) FROM docs"))
        untrained = int(session.value(UNTRAINED_ROWS))
        check(
            "later rows are in the trained form",
            ENOUGH + 300 <= untrained < nodes - 2000,
            f"{untrained} of {nodes}",
        )
        sound(session, "statements under way")
        finds_own_texts(session, "statements under way", chooser)


def test_crash_and_standby():
    chooser = random.Random(4)
    with (
        tiny_cluster("wal_consistency_checking=generic", "autovacuum=off", "leann.patience=1000") as primary,
        primary.session() as writer,
    ):
        writer.run(PREPARED)
        with standby_of(primary) as standby, standby.session() as reader:
            insert(writer, 0, ENOUGH)
            writer.run("VACUUM docs", 600)
            insert(writer, 200_000, 1500)
            end = writer.value("SELECT pg_current_wal_insert_lsn()")
            reader.run(
                f"DO $$ BEGIN WHILE pg_last_wal_replay_lsn() < '{end}' LOOP PERFORM pg_sleep(0.02);"
                " END LOOP; END $$",
                120,
            )
            check("the standby has the trained sketch", reader.value(TRAINED) == "t")
            same = [sentence(chooser, 4) for _ in range(10)]
            same = [
                query
                for query in same
                if nearest(writer, query, 10, False) != nearest(reader, query, 10, False)
            ]
            check("and gives the same rows", not same, str(same))
            check("and its pages are as the primary's", "inconsistent page" not in standby.log())
        before = index_ids(writer)
        primary.kill()
        primary.resume()
        with primary.session() as again:
            check("after a crash it is still there", again.value(TRAINED) == "t")
            check("with the same rows", index_ids(again) == before)
            insert(again, 300_000, 500)
            again.run("DELETE FROM docs WHERE id % 3 = 0; VACUUM docs", 600)
            sound(again, "after a crash")
            finds_own_texts(again, "after a crash", chooser)
            again.run("REINDEX INDEX docs_embedding", 600)
            sound(again, "after a REINDEX")
