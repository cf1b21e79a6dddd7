"""Logical replication into a table with an index: the apply worker, which runs with an empty search_path and
no session of its own, keeps the index right through the first copy, inserts, updates, deletes, TRUNCATE, and
streamed and rolled back transactions; it says what is wrong when it has no model, and goes on when there is
one."""

import random
import time

from support.checks import check
from support.clusters import tiny_cluster
from support.index import faults, found_by_own_text, heap_ids, nearest, same_rows
from support.texts import SQL_SENTENCE

TABLES = "CREATE TABLE docs (id int PRIMARY KEY, body text, note int DEFAULT 0);"


def wait_until(session, condition, seconds=60):
    end = time.monotonic() + seconds
    while session.value(f"SELECT ({condition})::text") != "true":
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


def caught_up(publisher, subscriber):
    """Waits until the subscriber has applied all that the publisher has committed."""
    end = publisher.value("SELECT pg_current_wal_lsn()")
    if not (
        wait_until(subscriber, "NOT EXISTS (SELECT FROM pg_subscription_rel WHERE srsubstate <> 'r')")
        and wait_until(
            publisher,
            f"(SELECT replay_lsn >= '{end}' FROM pg_stat_replication WHERE application_name = 'follow')",
        )
    ):
        raise AssertionError("the subscriber does not catch up")


def same(name, publisher, subscriber):
    found = faults(subscriber)
    check(f"{name}: leann.check is clean on the subscriber", not found, "; ".join(found[:5]))
    same_rows(f"{name}: the index holds exactly the rows of its table", subscriber)
    check(f"{name}: which are those of the publisher", heap_ids(publisher) == heap_ids(subscriber))
    chooser, found, wanted = random.Random(name), 0, 0
    for _ in range(20):
        query = publisher.value(f"SELECT sentence({chooser.randrange(10**6, 10**7)})")  # words as in the rows
        exact = {row[1] for row in nearest(publisher, query, 10, True)}  # distances: rows may be equally near
        found += len({row[1] for row in nearest(subscriber, query, 10, False)} & exact)
        wanted += len(exact)
    check(
        f"{name}: answers are those of an exact search on the publisher",
        found >= 0.85 * wanted,
        f"{found} of {wanted}",
    )


def test_replicated():
    with (
        tiny_cluster("wal_level=logical", "autovacuum=off", "logical_decoding_work_mem=64kB") as source,
        tiny_cluster("autovacuum=off", "wal_retrieve_retry_interval=200ms") as target,
        source.session() as publisher,
        target.session() as subscriber,
    ):
        publisher.run(
            SQL_SENTENCE
            + ";"
            + TABLES
            + "INSERT INTO docs SELECT n, sentence(n) FROM generate_series(1, 700) n;"
            "CREATE PUBLICATION all_docs FOR TABLE docs"
        )
        subscriber.run(
            TABLES + "CREATE INDEX docs_embedding ON docs USING leann (embedding_of(body));"
            "CREATE INDEX docs_named ON docs USING leann (embedding_of('title: ' || body, 'tiny-hash-b'))"
            " WHERE note = 0"
        )
        connection = f"host={source.env['PGHOST']} port={source.env['PGPORT']} user=postgres dbname=postgres"
        subscriber.run(
            f"CREATE SUBSCRIPTION follow CONNECTION '{connection}' PUBLICATION all_docs WITH (streaming = on)"
        )
        caught_up(publisher, subscriber)
        same("the first copy", publisher, subscriber)

        publisher.run(
            "INSERT INTO docs SELECT n, sentence(n) FROM generate_series(701, 1500) n;"
            "UPDATE docs SET body = sentence(id + 5000) WHERE id % 7 = 0;"
            "UPDATE docs SET note = note + 1 WHERE id % 5 = 0;"  # HOT where the partial index allows
            "DELETE FROM docs WHERE id % 3 = 0"
        )
        caught_up(publisher, subscriber)
        same("inserts, updates and deletes", publisher, subscriber)
        check("new rows are found by their own text", not found_by_own_text(subscriber, range(701, 1500, 99)))

        publisher.run(
            "BEGIN; INSERT INTO docs SELECT n, sentence(n) FROM generate_series(2001, 4000) n;"
            "SAVEPOINT half; DELETE FROM docs WHERE id < 500; ROLLBACK TO half; COMMIT;"
            "BEGIN; INSERT INTO docs SELECT n, sentence(n) FROM generate_series(5001, 7000) n; ROLLBACK",
            600,
        )
        caught_up(publisher, subscriber)
        same("large and rolled back transactions", publisher, subscriber)
        subscriber.run("VACUUM docs")
        same("VACUUM on the subscriber", publisher, subscriber)
        without_model(target, publisher, subscriber)

        publisher.run("TRUNCATE docs; INSERT INTO docs SELECT n, sentence(n) FROM generate_series(1, 50) n")
        caught_up(publisher, subscriber)
        same("TRUNCATE", publisher, subscriber)
        check("the other index is sound too", not faults(subscriber, "docs_named"))
        log = target.log()
        check(
            "no error but the one about the missing model",
            all("tiny-hash" in line for line in log.splitlines() if "ERROR:" in line),
            log[-2000:],
        )
        subscriber.run("DROP SUBSCRIPTION follow")


def without_model(target, publisher, subscriber):
    """The worker cannot embed what it is to insert: it stops with the error that a session would get, and
    loses nothing."""
    models = subscriber.run("SHOW leann.model_dir")[0]
    subscriber.run("ALTER SYSTEM SET leann.model_dir = '/tmp'; SELECT pg_reload_conf()")
    # A worker that has not loaded it yet.
    subscriber.run("ALTER SUBSCRIPTION follow DISABLE")
    stopped = wait_until(subscriber, "NOT EXISTS (SELECT FROM pg_stat_subscription WHERE pid IS NOT NULL)")
    check("the worker stops when it is told to", stopped)
    subscriber.run("ALTER SUBSCRIPTION follow ENABLE")
    publisher.run("INSERT INTO docs VALUES (9001, 'a row that waits for its model')")
    end = time.monotonic() + 30
    while 'model "tiny-hash' not in target.log() and time.monotonic() < end:
        time.sleep(0.2)
    check("without the model: a clear error in the log", "does not exist" in target.log())
    check(
        "and the row is not there yet", subscriber.value("SELECT count(*) FROM docs WHERE id = 9001") == "0"
    )
    subscriber.run("ALTER SYSTEM RESET leann.model_dir; SELECT pg_reload_conf()")
    check(
        "the model is back where it was",
        wait_until(subscriber, f"current_setting('leann.model_dir') = '{models}'"),
    )
    caught_up(publisher, subscriber)
    check("with the model again: the row is there, and found", not found_by_own_text(subscriber, [9001]))
