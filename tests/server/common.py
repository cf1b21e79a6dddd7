"""What the server tests share: finding scripts/pg.py, the test model, reporting, and comparing an index with exact search."""

import os
import pathlib
import re
import sys
import time
import traceback

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

from pg import Cluster, Lost, Session, SqlError, program, quote  # noqa: E402,F401

FAILED = []

# LEANN_SOAK=1 (make soak): the tests that load a server do so for minutes instead of seconds.
SOAK = bool(os.environ.get("LEANN_SOAK"))


def check(name, condition, detail=""):
    """Prints `ok name`, or `not ok name: detail`."""
    print(f"{'ok' if condition else 'not ok'} {name}" + (f": {detail}" if detail and not condition else ""), flush=True)
    if not condition:
        FAILED.append(name)
    return condition


def main(*cases):
    """Runs each case (a function), an exception in one being its failure. Never returns."""
    for case in cases:
        begin = time.monotonic()
        try:
            case()
        except Exception:  # noqa: BLE001: whatever it is, the next case is to run
            traceback.print_exc()
            check(f"{case.__name__} runs to its end", False)
        print(f"   {case.__name__}: {time.monotonic() - begin:.1f} s", flush=True)
    check("the servers' logs show no crash, no leak and no failed assertion", not Cluster.log_faults,
          "\n    ".join(Cluster.log_faults[:10]))
    sys.exit(1 if FAILED else 0)


def skip(reason):
    """Ends a test that cannot be run here. Never returns."""
    print(f"skipped: {reason}", flush=True)
    sys.exit(77)


def tiny_cluster(*settings, pg_config=None):
    """A private cluster whose default model is the small one in tests/models, and the extension in its database."""
    models = ROOT / "tests" / "models"
    if not os.access(models / "tiny-hash", os.R_OK):
        raise SystemExit(f"{models}/tiny-hash is missing")
    cluster = Cluster("leann.threads=1", *settings, pg_config=pg_config)
    cluster.settings += [f"leann.model_dir={cluster.readable(models)}", "leann.default_model=tiny-hash"]
    cluster.start()
    with cluster.session() as session:
        session.run("CREATE EXTENSION leann")
    return cluster


def real_cluster(*settings):
    """A private cluster with the model that `make model` makes."""
    cluster = Cluster("shared_buffers=256MB", *settings)
    with cluster.session() as session:
        session.run("CREATE EXTENSION leann")
    return cluster


def mapped(pid):
    """Kilobytes of a process by kind, as the kernel names them."""
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
        return {name: int(size) for name, size in re.findall(r"^(\w+):\s+(\d+) kB", file.read(), flags=re.M)}


def memory(pid):
    """Megabytes of a process: private, and its share of what is shared (PSS)."""
    sizes = mapped(pid)
    return (sizes["Private_Clean"] + sizes["Private_Dirty"]) / 1024, sizes["Pss"] / 1024


def anonymous(pid):
    """Bytes of a process' own memory: what is not a file and not shared. (Shared buffers that no other process has touched count as
    private, so what is private grows with the table.)"""
    return mapped(pid)["Anonymous"] * 1024


def error_of(session, sql, timeout=600):
    """The SqlError that a statement ends with; None if it works."""
    try:
        session.run(sql, timeout)
    except SqlError as error:
        return error
    return None


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
    """The ids of all rows that a full ordered scan of the index gives. It must be the index that answers. (In relaxed
    order, because strict order leaves out rows that turn out nearer than one already returned.)"""
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
    return check(name, heap == index, f"only in the table: {sorted(set(heap) - set(index))[:20]}, "
                                      f"only in the index: {sorted(set(index) - set(heap))[:20]}")


def nearest(session, query, limit, exact):
    """[(id, distance)] of the nearest rows, by the index or by a sequential scan."""
    session.run("SET enable_indexscan = off; SET enable_seqscan = on" if exact
                else "SET enable_indexscan = on; SET enable_seqscan = off")
    select = (f"SELECT id, embedding_of(body) <-> {quote(query)} FROM docs"
              f" ORDER BY embedding_of(body) <-> {quote(query)} LIMIT {limit}")
    if not exact and "Index Scan using" not in session.plan(select):
        raise AssertionError("the index is not used")
    rows = [(int(row[0]), float(row[1])) for row in session.rows(select)]
    session.run("RESET enable_indexscan; RESET enable_seqscan")
    return rows


def found_by_own_text(session, ids, places=3):
    """Those of the ids that their own text does not find: at distance < 1e-3 among the first, or behind rows that are
    just as near."""
    missing = []
    session.run("SET enable_seqscan = off")
    for number in ids:
        body = session.value(f"SELECT body FROM docs WHERE id = {number}")
        rows = session.rows(
            f"SELECT id, embedding_of(body) <-> embedding_of({quote(body)}) AS distance FROM docs"
            f" ORDER BY embedding_of(body) <-> embedding_of({quote(body)}) LIMIT {places}")
        near = [row[0] for row in rows if float(row[1]) < 1e-3]
        if str(number) not in near and len(near) < places:
            missing.append(number)
    session.run("RESET enable_seqscan")
    return missing


# Texts for the small model: a few hundred words, so that many rows share some.
WORDS = [a + b for a in ("ba", "ce", "di", "fo", "gu", "ha", "je", "ki", "lo", "mu", "na", "pe", "ri", "so", "tu", "va")
         for b in ("ber", "lan", "mit", "nos", "pal", "rus", "sen", "tor", "vek", "wim", "xan", "yor", "zel", "dak", "fen")]


def sentence(random, length=8):
    return " ".join(random.choice(WORDS) for _ in range(length))


# The same in SQL, where many rows are wanted.
SQL_SENTENCE = """
CREATE FUNCTION sentence(seed bigint) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT string_agg(substr(md5(seed::text || ' ' || n), 1, 2), ' ' ORDER BY n) FROM generate_series(1, 8) n
$$"""
