"""Comparing an index with exact search over its table."""

from pg import quote
from support.checks import check


def faults(session, index="docs_embedding"):
    """What leann.check says, one text per fault."""
    return session.run(f"SELECT c::text FROM leann.check('{index}') AS c", 600)


def heap_ids(session, table="docs"):
    """The ids of all visible rows that the index should give, by a sequential scan."""
    session.run("SET enable_indexscan = off; SET enable_seqscan = on")
    ids = sorted(int(row[0]) for row in session.rows(f"SELECT id FROM {table} WHERE body IS NOT NULL"))
    session.run("RESET enable_indexscan")
    return ids


def index_ids(session, query="anything at all", table="docs", limit=1_000_000):
    """The ids of all rows that a full ordered scan of the index gives. It must be the index that answers. (In
    relaxed order, because strict order leaves out rows that turn out nearer than one already returned.)"""
    session.run("SET enable_seqscan = off; SET leann.iterative_scan = relaxed_order")
    select = f"SELECT id FROM {table} ORDER BY embedding_of(body) <-> {quote(query)} LIMIT {limit}"
    plan = session.plan(select)
    if "Index Scan using" not in plan:
        raise AssertionError(f"the index is not used:\n{plan}")
    ids = [int(row[0]) for row in session.rows(select, 1800)]
    session.run("RESET enable_seqscan; RESET leann.iterative_scan")
    if len(set(ids)) != len(ids):
        raise AssertionError("a row was returned twice")
    return sorted(ids)


def same_rows(name, session, query="anything at all"):
    """The index holds exactly the visible rows."""
    heap, index = heap_ids(session), index_ids(session, query)
    return check(
        name,
        heap == index,
        f"only in the table: {sorted(set(heap) - set(index))[:20]}, "
        f"only in the index: {sorted(set(index) - set(heap))[:20]}",
    )


def nearest(session, query, limit, exact):
    """[(id, distance)] of the nearest rows, by the index or by a sequential scan."""
    session.run(
        "SET enable_indexscan = off; SET enable_seqscan = on"
        if exact
        else "SET enable_indexscan = on; SET enable_seqscan = off"
    )
    select = (
        f"SELECT id, embedding_of(body) <-> {quote(query)} FROM docs"
        f" ORDER BY embedding_of(body) <-> {quote(query)} LIMIT {limit}"
    )
    if not exact and "Index Scan using" not in session.plan(select):
        raise AssertionError("the index is not used")
    rows = [(int(row[0]), float(row[1])) for row in session.rows(select)]
    session.run("RESET enable_indexscan; RESET enable_seqscan")
    return rows


def found_by_own_text(session, ids, places=3):
    """Those of the ids that their own text does not find: at distance < 1e-3 among the first, or behind rows
    that are just as near."""
    missing = []
    session.run("SET enable_seqscan = off")
    for number in ids:
        body = session.value(f"SELECT body FROM docs WHERE id = {number}")
        rows = session.rows(
            f"SELECT id, embedding_of(body) <-> embedding_of({quote(body)}) AS distance FROM docs"
            f" ORDER BY embedding_of(body) <-> embedding_of({quote(body)}) LIMIT {places}"
        )
        near = [row[0] for row in rows if float(row[1]) < 1e-3]
        if str(number) not in near and len(near) < places:
            missing.append(number)
    session.run("RESET enable_seqscan")
    return missing
