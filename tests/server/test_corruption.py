"""Damaged index pages: whatever is written over them, every statement ends, with a result or an ERROR that
says that the index is corrupted, and the server stays up. And an index that a release with another page
format wrote: an ERROR that says so, and what to do."""

import os
import random

from pg import Lost, SqlError
from support.checks import check, check_refused
from support.damage import index_file

PAGE = 8192
HEADER = 24  # the server's own page header, which it checks itself
FORMAT = HEADER + 3  # of block 0: crates/page/README.md
TRIALS = int(os.environ.get("TRIALS", "40"))
SEED = int(os.environ.get("SEED", "11"))
STATEMENTS = {
    "check": "SELECT count(*) FROM leann.check('docs_embedding')",
    "index_info": "SELECT * FROM leann.index_info('docs_embedding')",
    "search": "SELECT id FROM docs ORDER BY embedding_of(body) <-> 'ab cd ef' LIMIT 5",
    "full scan": "SELECT count(*) FROM (SELECT id FROM docs ORDER BY embedding_of(body) <-> 'ab cd ef'"
    " LIMIT 1000000) AS rows",
    "any order": "SELECT count(*) FROM (SELECT id FROM docs ORDER BY embedding_of(body) <-> NULL::text"
    " LIMIT 1000000) AS rows",
    "insert": "INSERT INTO docs SELECT 100000 + n, sentence(n) FROM generate_series(1, 300) n",
    "vacuum": "DELETE FROM docs WHERE id % 7 = 0; VACUUM docs",
}
ALLOWED = {"XX001", "XX002"}  # data_corrupted, index_corrupted
# A meta page that names another model, or another fingerprint, may be taken at its word.
ALLOWED_IN_META = {"55000", "42704"}


def damage(chooser, pages):
    """A copy of the pages with one kind of damage, what it was, and whether it is in the meta page."""
    pages = bytearray(pages)
    count = len(pages) // PAGE
    block = chooser.choice([0, 1, chooser.randrange(count), chooser.randrange(count)]) % count
    start = block * PAGE
    kind = chooser.choice(["a byte", "a number", "a run", "a page", "zeros", "another page", "cut off"])
    at = start + chooser.randrange(HEADER, PAGE - 8)
    if kind in ("a byte", "a number", "a run"):
        if chooser.random() < 0.6:
            at = start + chooser.randrange(HEADER, HEADER + 64)  # the fields at the front matter most
        size = {"a byte": 1, "a number": 4, "a run": chooser.randrange(8, 400)}[kind]
        size = min(size, start + PAGE - at)
        pages[at : at + size] = chooser.choice([chooser.randbytes(size), b"\xff" * size, b"\x00" * size])
    elif kind == "a page":
        pages[start + HEADER : start + PAGE] = chooser.randbytes(PAGE - HEADER)
    elif kind == "zeros":
        pages[start : start + PAGE] = bytes(PAGE)
    elif kind == "another page":
        other = chooser.randrange(count) * PAGE
        pages[start : start + PAGE] = pages[other : other + PAGE]
    else:
        del pages[start:]
    return bytes(pages), f"block {block} of {count}, {kind}", block == 0


def test_damaged_pages():
    chooser = random.Random(SEED)
    wrong, noticed = [], 0
    with index_file(more_rows=600) as index:
        for trial in range(TRIALS):
            pages, what, in_meta = damage(chooser, index.whole)
            with index.damaged(pages) as session:
                faults, said = try_statements(session, ALLOWED | (ALLOWED_IN_META if in_meta else set()))
            wrong += [f"trial {trial} ({what}), {fault}" for fault in faults]
            noticed += said
    check(
        f"{TRIALS} damaged indexes: every statement ends with a result or says that the index is corrupted",
        not wrong,
        "\n    ".join(wrong[:10]),
    )
    check("leann.check notices most of the damage", noticed > TRIALS / 2, f"{noticed} of {TRIALS}")


def try_statements(session, allowed):
    """What went wrong with any of the statements, and whether leann.check noticed the damage."""
    wrong, noticed = [], False
    session.run(
        "SET enable_seqscan = off; SET leann.iterative_scan = relaxed_order; SET statement_timeout = '60s'"
    )
    for name, sql in STATEMENTS.items():
        try:
            lines = session.run(f"BEGIN; {sql}; ROLLBACK" if name == "insert" else sql, 90)
            noticed = noticed or (name == "check" and lines != ["0"])
        except Lost as error:
            wrong.append(f"{name}: the connection was lost: {error}")
            break
        except SqlError as error:
            noticed = noticed or name == "check"
            if error.sqlstate not in allowed:
                wrong.append(f"{name}: {error.sqlstate}: {error}")
            session.run("ROLLBACK")
        except TimeoutError:
            wrong.append(f"{name}: no end within 90 s")
            break
    return wrong, noticed


HUB, NODE = 3, 4  # kinds of pages: crates/page/README.md
NODE_HUB, HUB_NEXT, HUB_FIRST_NODE = HEADER + 14, HEADER + 8, HEADER + 24
META_HUB_FIRST, META_ENTRY_HUBS = HEADER + 88, HEADER + 248


def wrong_references(data):
    """(what is wrong, the changed pages): references that lead back to the page that holds them, or to one
    that is locked with it."""
    kinds = [data[start + HEADER + 2] for start in range(0, len(data), PAGE)]
    nodes = [block for block, kind in enumerate(kinds) if kind == NODE]
    hubs = [block for block, kind in enumerate(kinds) if kind == HUB]

    def changed(*changes):
        pages = bytearray(data)
        for block, at, number in changes:
            pages[block * PAGE + at : block * PAGE + at + 4] = number.to_bytes(4, "little")
        return bytes(pages)

    yield "node pages that are their own hub pages", changed(*((node, NODE_HUB, node) for node in nodes))
    yield "node pages whose hub page is a node page", changed(*((node, NODE_HUB, nodes[0]) for node in nodes))
    yield "node pages whose hub page is the meta page", changed(*((node, NODE_HUB, 0) for node in nodes))
    yield "hubs that name their own page", changed(*((hub, HUB_FIRST_NODE, hub) for hub in hubs))
    yield "a chain of hub pages that leads to its own page", changed(*((hub, HUB_NEXT, hub) for hub in hubs))
    yield "a chain of hub pages that leads to a node page", changed((hubs[0], HUB_NEXT, nodes[0]))
    yield "a chain of hub pages that starts in a node page", changed((0, META_HUB_FIRST, nodes[0]))
    yield (
        "entry hubs on the meta page and a node page",
        changed((0, META_ENTRY_HUBS, 0), (0, META_ENTRY_HUBS + 6, nodes[0])),
    )


def test_references_in_a_circle():
    """Nothing waits for a lock that its own backend holds: that would be for good, out of reach of any
    signal."""
    statements = {
        "check": STATEMENTS["check"],
        "search": STATEMENTS["search"],
        "full scan": STATEMENTS["full scan"],
        "any order": STATEMENTS["any order"],
        "insert with splits": "BEGIN;"
        "INSERT INTO docs SELECT 100000 + n, sentence(n) FROM generate_series(1, 3000) n; ROLLBACK",
        "vacuum of sparse pages": "DELETE FROM docs WHERE id % 4 <> 0; VACUUM docs",
        "vacuum of empty pages": "DELETE FROM docs; VACUUM docs",
    }
    with index_file("WITH (sketch_bytes = 200)") as index:
        for what, pages in wrong_references(index.whole):
            wrong, said = [], 0
            for name, sql in statements.items():
                with index.damaged(pages) as session:
                    try:
                        session.run("SET enable_seqscan = off; SET statement_timeout = '30s'")
                        lines = session.run(sql, 60)
                        said += name == "check" and lines != ["0"]
                    except SqlError as error:
                        said += 1
                        if error.sqlstate not in ALLOWED or isinstance(error, Lost):
                            wrong.append(f"{name}: {error.sqlstate}: {error}")
                    except TimeoutError:
                        wrong.append(f"{name}: no end within 60 s")
            check(
                f"{what}: every statement ends, with a result or an error that says so",
                not wrong,
                "\n    ".join(wrong),
            )
            check(f"{what}: some statement says so", said > 0 or what.startswith("entry hubs"))


def test_another_format():
    with index_file(rows=1) as index:
        check("the format stands where it should", index.whole[FORMAT] == 1)
        with index.damaged(index.whole[:FORMAT] + b"\x02" + index.whole[FORMAT + 1 :]) as session:
            session.run("SET enable_seqscan = off")
            statements = {name: STATEMENTS[name] for name in ("search", "index_info", "vacuum")}
            statements["insert"] = "INSERT INTO docs VALUES (2, 'another text')"
            for name, sql in statements.items():
                check_refused(
                    f"another format: {name} is refused, with a hint",
                    session,
                    sql,
                    "55000",
                    "is in format 2",
                    "HINT",
                    "REINDEX",
                )
            found = session.run("SELECT fault FROM leann.check('docs_embedding')")
            check(
                "leann.check names the format", len(found) == 1 and "format version 2" in found[0], str(found)
            )
            session.run("REINDEX INDEX docs_embedding")
            check(
                "REINDEX makes an index of this release's format",
                not session.run("SELECT fault FROM leann.check('docs_embedding')")
                and session.run(STATEMENTS["search"]) == ["1"],
            )
