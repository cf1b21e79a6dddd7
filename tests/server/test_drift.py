"""Content that drifts: topics that come and go, a table that shrinks and grows, deletes that leave every page
sparse. The index keeps to what its rows need, finds them as well as before, and nothing is missed while
VACUUM moves nodes under scans and inserts."""

import random
import time

import pytest

from support.checks import SOAK, check, note
from support.index import faults, index_ids, nearest, same_rows
from support.pages import same_pointers
from support.threads import run_together

CYCLES = 100 if SOAK else 12
# Of the blocks that the rows of the fullest moment need, when pages are filled as inserts fill them.
ALLOWED = 1.5
GROWN_FILL = 0.7
HUBS_PER_PAGE = 25

# A topic has words of its own, of which a text has some, and a few of all topics.
TEXTS = """
CREATE FUNCTION topic_text(topic int, n int) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT string_agg(CASE WHEN w <= 6 THEN left(md5('topic ' || topic || ' ' || (n * 7 + w * w) % 9), 4)
                           ELSE left(md5(n || ' ' || w), 3) END, ' ') FROM generate_series(1, 8) w
$$;
CREATE TABLE docs (id serial PRIMARY KEY, topic int, body text);
CREATE FUNCTION add(first int, topics int, rows int) RETURNS void LANGUAGE sql AS $$
    INSERT INTO docs (topic, body) SELECT first + n % topics, topic_text(first + n % topics, n) FROM
        generate_series(1, rows) n
$$;
"""
# Large sketches, so that few rows make many pages.
INDEX = "CREATE INDEX docs_embedding ON docs USING leann (embedding_of(body)) WITH (sketch_bytes = 200)"


def info(session):
    columns = (
        "nodes, node_pages, hub_pages, params_pages, free_pages, fill, bytes / 8192, coalesce(advice, '')"
    )
    row = session.row(f"SELECT {columns} FROM leann.index_info('docs_embedding')")
    nodes, nodes_pages, hubs, params, free = (int(value) for value in row[:5])
    return {
        "nodes": nodes,
        "node_pages": nodes_pages,
        "hub_pages": hubs,
        "params_pages": params,
        "free_pages": free,
        "fill": float(row[5]),
        "blocks": int(row[6]),
        "advice": row[7],
    }


def needed(found, rows):
    """Blocks that so many rows need."""
    capacity = found["nodes"] / found["fill"] / found["node_pages"]
    pages = max(1, -(-rows // int(capacity * GROWN_FILL)))
    return 1 + found["params_pages"] + -(-pages // HUBS_PER_PAGE) + pages


def finds(session, name):
    """Nearest rows are found as exact search finds them."""
    found = total = 0
    for (body,) in session.rows("SELECT body FROM docs ORDER BY md5(id::text) LIMIT 40"):
        exact, index = nearest(session, body, 10, True), nearest(session, body, 10, False)
        kth = exact[-1][1] + 1e-6
        found += sum(distance <= kth for _, distance in index)
        total += len(exact)
    check(f"{name}: the nearest rows are found", found >= 0.95 * total, f"{found} of {total}")


def sound(session, name):
    check(f"{name}: leann.check is clean", not faults(session), str(faults(session)[:5]))
    same_rows(f"{name}: a full scan gives each row once", session)
    session.run("SET enable_seqscan = off")
    any_order = session.run(
        "SELECT count(*) FROM (SELECT id FROM docs ORDER BY embedding_of(body) <-> NULL::text LIMIT 10000000)"
        " AS rows"
    )
    session.run("RESET enable_seqscan")
    check(
        f"{name}: a scan in any order gives each row once",
        any_order == session.run("SELECT count(*) FROM docs"),
        str(any_order),
    )
    same_pointers(f"{name}: the index points to each row once", session)
    finds(session, name)


def prepared(session, topics, rows):
    session.run(TEXTS)
    session.run(f"SELECT add(0, {topics}, {rows})", 600)
    session.run(INDEX, 600)


@pytest.mark.cluster("autovacuum=off")
def test_sliding_window(session):
    """New topics come, the oldest rows go."""
    prepared(session, 20, 1000)
    worst, most, pages = 0, 0, []
    for cycle in range(1, CYCLES + 1):
        session.run(f"SELECT add({20 * cycle}, 20, 500)", 600)
        now = info(session)
        most = max(most, needed(now, now["nodes"]))
        worst = max(worst, now["blocks"])
        session.run(
            "DELETE FROM docs WHERE id IN (SELECT id FROM docs ORDER BY id LIMIT 500); VACUUM docs", 600
        )
        session.run(
            "SET enable_seqscan = off; SELECT id FROM docs ORDER BY embedding_of(body) <-> 'a b c' LIMIT 10"
        )
        pages.append(int(session.value("SELECT pages FROM leann.last_scan()")))
    check(
        f"{CYCLES} cycles of a sliding window: the index stays within {ALLOWED} times its need",
        worst <= ALLOWED * most,
        f"{worst} blocks, {most} needed; at last {info(session)}",
    )
    check(
        "searches read as few pages at the end as at the beginning",
        pages[-1] <= 1.5 * max(pages[:3]) + 3,
        str(pages),
    )
    sound(session, "sliding window")
    note(f"sliding window: {worst} blocks, {most} needed, pages of searches {pages}, {info(session)}")


@pytest.mark.cluster("autovacuum=off")
def test_shrinks_and_grows(session):
    """Most rows go, others come in their place, again and again."""
    prepared(session, 30, 1000)
    worst, most, fills = 0, 0, []
    for cycle in range(1, CYCLES + 1):
        session.run(
            "DELETE FROM docs WHERE id % 10 <> 0 OR id NOT IN (SELECT id FROM docs ORDER BY id DESC"
            " LIMIT 999); VACUUM docs",
            600,
        )
        fills.append(info(session)["fill"])
        session.run(f"SELECT add({7 * cycle}, 30, 900)", 600)
        now = info(session)
        worst, most = max(worst, now["blocks"]), max(most, needed(now, now["nodes"]))
    check(
        f"{CYCLES} times shrunk and grown: the index stays within {ALLOWED} times its need",
        worst <= ALLOWED * most,
        f"{worst} blocks, {most} needed; at last {info(session)}",
    )
    check("what is left lies close together each time", min(fills) >= 0.45, str(fills))
    sound(session, "shrunk and grown")
    note(f"shrunk and grown: {worst} blocks, {most} needed, fill {min(fills):.2f} at least, {info(session)}")


@pytest.mark.cluster("autovacuum=off")
def test_topics_replaced(session):
    """Each time every other row of each page goes, or a topic gives way to another."""
    prepared(session, 16, 1200)
    worst, most = 0, 0
    for cycle in range(1, CYCLES + 1):
        if cycle % 2:
            session.run(f"DELETE FROM docs WHERE id % 2 = {cycle // 2 % 2}; VACUUM docs", 600)
        else:
            session.run(
                "DELETE FROM docs WHERE topic IN (SELECT topic FROM docs GROUP BY topic"
                " ORDER BY count(*) DESC, topic LIMIT 8); VACUUM docs",
                600,
            )
        missing = 1200 - int(session.value("SELECT count(*) FROM docs"))
        session.run(f"SELECT add({100 + 8 * cycle}, 8, {missing})", 600)
        now = info(session)
        worst, most = max(worst, now["blocks"]), max(most, needed(now, now["nodes"]))
    check(
        f"{CYCLES} times half of the rows replaced: the index stays within {ALLOWED} times its need",
        worst <= ALLOWED * most,
        f"{worst} blocks, {most} needed; at last {info(session)}",
    )
    sound(session, "replaced")
    note(f"replaced: {worst} blocks, {most} needed, {info(session)}")


@pytest.mark.cluster("autovacuum=off")
def test_one_row_in_a_hundred(session):
    """What is left of many rows lies on few pages, and a REINDEX is advised, which then is no longer."""
    prepared(session, 40, 8000)
    before = info(session)
    session.run("DELETE FROM docs WHERE id % 100 <> 0; VACUUM docs", 600)
    after = info(session)
    check(
        "no page is left that near ones could take",
        after["node_pages"] <= 2 * needed(after, after["nodes"])
        and after["node_pages"] < before["node_pages"] // 10,
        f"{before}, then {after}",
    )
    session.run(
        "SET enable_seqscan = off; SELECT id FROM docs ORDER BY embedding_of(body) <-> 'a b c' LIMIT 10"
    )
    read = int(session.value("SELECT pages FROM leann.last_scan()"))
    check("a search reads few pages", read <= after["node_pages"], str(read))
    check("a REINDEX is advised", "REINDEX" in after["advice"], str(after))
    sound(session, "one row in a hundred")
    session.run("REINDEX INDEX docs_embedding")
    check("and not any more after it", "REINDEX" not in info(session)["advice"], str(info(session)))


@pytest.mark.cluster("autovacuum=off")
def test_nothing_is_missed(cluster):
    """Scans, inserts and VACUUMs that empty pages run at once; a row that stays is in every full scan."""
    with cluster.session() as session:
        prepared(session, 10, 2000)
        session.run("UPDATE docs SET topic = -1 WHERE id % 20 = 0; VACUUM docs", 600)
        kept = sorted(int(row[0]) for row in session.rows("SELECT id FROM docs WHERE topic = -1"))
    wrong, until = [], time.monotonic() + (120 if SOAK else 20)
    counts = {"scans": 0, "vacuums": 0}

    def churn():
        chooser = random.Random(5)
        with cluster.session(name="churn") as own:
            while time.monotonic() < until:
                own.run(f"SELECT add({chooser.randrange(1000)}, {chooser.choice((1, 8))}, 700)", 120)
                own.run(
                    f"DELETE FROM docs WHERE topic <> -1 AND (id % 4 <> {chooser.randrange(4)} OR id <"
                    " (SELECT max(id) - 3000 FROM docs))"
                )

    def vacuum():
        with cluster.session(name="vacuum") as own:
            while time.monotonic() < until:
                own.run("VACUUM docs", 120)
                counts["vacuums"] += 1

    def scan(query):
        with cluster.session(name=f"scan {query}") as own:
            own.run("SET enable_seqscan = off; SET leann.iterative_scan = relaxed_order")
            while time.monotonic() < until:
                got = [
                    int(row[0])
                    for row in own.rows(
                        f"SELECT id FROM (SELECT id, topic FROM docs ORDER BY embedding_of(body) <-> {query}"
                        " LIMIT 1000000) AS rows"
                        " WHERE topic = -1",
                        120,
                    )
                ]
                counts["scans"] += 1
                if sorted(got) != kept:
                    wrong.append(
                        f"{query}: missing {sorted(set(kept) - set(got))[:10]}, doubled"
                        f" {len(got) - len(set(got))}"
                    )
                    return

    wrong += run_together((churn,), (vacuum,), (scan, "NULL::text"), (scan, "'some words'"))
    check(
        f"{counts['scans']} full scans during {counts['vacuums']} VACUUMs missed no row",
        not wrong and counts["scans"] > 5,
        str(wrong[:3]),
    )
    with cluster.session() as session:
        check("the ids are those of an index scan", index_ids(session) is not None)
        sound(session, "after scans, inserts and VACUUMs at once")
