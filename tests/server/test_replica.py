"""A streaming standby, with the server itself comparing every replayed page (wal_consistency_checking): equal
answers after each of several rounds of writes, answers while changes arrive, a clear error without the model,
promotion, and writes after it. The standby begins as a base backup, so that is tested too."""

import random
import threading

from support.checks import check, check_refused, said_by
from support.clusters import standby_of, tiny_cluster
from support.index import faults, found_by_own_text, heap_ids, index_ids, nearest, same_rows
from support.texts import SQL_SENTENCE, sentence

ROUNDS = 5


def caught_up(primary, standby):
    """Waits until the standby has replayed all that the primary has written."""
    end = primary.value("SELECT pg_current_wal_insert_lsn()")
    standby.run(
        f"DO $$ BEGIN WHILE pg_last_wal_replay_lsn() < '{end}' LOOP PERFORM pg_sleep(0.02); END LOOP; END $$",
        120,
    )


def write(session, chooser, number):
    """One round: inserts that split pages, updates, deletes, vacuums that free and reuse pages."""
    seed = chooser.randrange(1_000_000)
    session.run(
        f"INSERT INTO docs (body) SELECT sentence({seed} + n) FROM generate_series(1, 900) n;"
        f"UPDATE docs SET body = sentence({seed} + id) WHERE id % 7 = {number % 7};"
        f"DELETE FROM docs WHERE id % 3 = {number % 3}",
        600,
    )
    session.run("VACUUM docs")
    if number == 2:
        session.run("DELETE FROM docs WHERE id < (SELECT max(id) - 200 FROM docs)")
        session.run("VACUUM docs")
        session.run("VACUUM docs")
    if number == 3:
        session.run("REINDEX INDEX docs_embedding", 600)


def same_answers(name, primary, standby, chooser):
    same = heap_ids(primary) == heap_ids(standby) and index_ids(primary) == index_ids(standby)
    for _ in range(5):
        query = sentence(chooser, 4)
        same = same and nearest(primary, query, 20, False) == nearest(standby, query, 20, False)
    check(name, same)


def test_follows():
    chooser = random.Random(8)
    with (
        tiny_cluster("wal_consistency_checking=generic", "autovacuum=off") as primary,
        primary.session() as writer,
    ):
        writer.run(
            "CREATE TABLE docs (id serial PRIMARY KEY, body text);"
            "CREATE INDEX docs_embedding ON docs USING leann (embedding_of(body));"
            "CREATE UNLOGGED TABLE passing (body text);"
            "CREATE INDEX passing_embedding ON passing USING leann (embedding_of(body));" + SQL_SENTENCE
        )
        with standby_of(primary) as standby:
            with standby.session() as reader:
                for number in range(ROUNDS):
                    write(writer, chooser, number)
                    caught_up(writer, reader)
                    found = faults(reader)
                    check(
                        f"round {number + 1}: leann.check is clean on the standby",
                        not found,
                        "; ".join(found[:5]),
                    )
                    same_answers(f"round {number + 1}: both give the same", writer, reader, chooser)
                    same_rows(f"round {number + 1}: the standby's index holds exactly its rows", reader)
                answers_meanwhile(writer, reader, chooser)
                insert = "INSERT INTO docs (body) VALUES ('x')"
                check_refused("a standby refuses writes", reader, insert, "25006")
            check(
                "replay found no page different from the primary's", "inconsistent page" not in standby.log()
            )
            without_model(primary)
            promoted(standby)


def answers_meanwhile(writer, reader, chooser):
    """Queries on the standby while it replays splits and vacuums."""
    asked, wrong = 0, []
    thread = threading.Thread(
        target=lambda: [write(writer, random.Random(9), number) for number in (0, 1, 4)]
    )
    thread.start()
    while thread.is_alive() or asked < 20:
        rows = nearest(reader, sentence(chooser, 4), 10, False)
        distances = [distance for _, distance in rows]
        if len(rows) < 10 or distances != sorted(distances) or len({number for number, _ in rows}) < 10:
            wrong.append(rows)
        asked += 1
    thread.join()
    check(
        "answers while changes are replayed are whole and in order",
        not wrong,
        f"{len(wrong)} of {asked}: {wrong[:1]}",
    )
    caught_up(writer, reader)
    check("leann.check is clean after that", not faults(reader))


def without_model(primary):
    with (
        standby_of(primary, "leann.default_model=tiny-hash", "leann.model_dir=/tmp") as bare,
        bare.session() as session,
    ):
        session.run("SET enable_seqscan = off")
        said = said_by(session, "SELECT id FROM docs ORDER BY embedding_of(body) <-> 'text' LIMIT 1")
        check(
            "without the model: a clear error",
            'model "tiny-hash" does not exist' in said and "HINT" in said,
            said,
        )
        check("leann.check needs no model", not faults(session))


def promoted(standby):
    standby.promote()
    with standby.session() as session:
        session.run(
            "INSERT INTO docs (body) SELECT sentence(5000000 + n) FROM generate_series(1, 700) n", 600
        )
        session.run("VACUUM docs")
        check("promoted: leann.check is clean", not faults(session))
        same_rows("promoted: the index holds exactly the table's rows", session)
        newest = [int(row[0]) for row in session.rows("SELECT id FROM docs ORDER BY id DESC LIMIT 20")]
        check("promoted: new rows are found", not found_by_own_text(session, newest))
        session.run("INSERT INTO passing SELECT sentence(n) FROM generate_series(1, 300) n")
        check(
            "promoted: an unlogged index begins empty and works",
            not faults(session, "passing_embedding")
            and session.value(
                "SELECT count(*) FROM (SELECT 1 FROM passing ORDER BY embedding_of(body) <-> 'ab cd'"
                " LIMIT 50) s"
            )
            == "50",
        )
