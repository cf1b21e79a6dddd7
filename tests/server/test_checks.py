"""leann.check while the index changes: on a primary under inserts, deletes and VACUUMs, and on a standby that
replays them, it reports nothing. And what it says of damage that was made on purpose."""

import time

from support.checks import SOAK, check, note
from support.clusters import standby_of, tiny_cluster
from support.damage import index_file
from support.index import faults
from support.texts import SQL_SENTENCE
from support.threads import run_together

SECONDS = 120 if SOAK else 15


def test_clean_while_it_changes():
    with tiny_cluster("autovacuum=off", "shared_buffers=32MB") as primary:
        with primary.session() as session:
            session.run(
                SQL_SENTENCE + ";CREATE TABLE docs (id serial PRIMARY KEY, body text);"
                "INSERT INTO docs (body) SELECT sentence(n) FROM generate_series(1, 2000) n;"
                "CREATE INDEX docs_embedding ON docs USING leann (embedding_of(body))"
                " WITH (sketch_bytes = 200)",
                600,
            )
        with standby_of(primary) as standby:
            until = time.monotonic() + SECONDS
            found, counts = {"primary": [], "standby": []}, {"primary": 0, "standby": 0}

            def insert(number):
                with primary.session(name=f"insert {number}") as own:
                    while time.monotonic() < until:
                        own.run(
                            "INSERT INTO docs (body) SELECT sentence((random() * 1e9)::bigint)"
                            " FROM generate_series(1, 300)",
                            120,
                        )

            def vacuum():
                with primary.session(name="vacuum") as own:
                    while time.monotonic() < until:
                        own.run(
                            "DELETE FROM docs WHERE id % 3 = 0 OR id < (SELECT max(id) - 6000 FROM docs);"
                            "VACUUM docs",
                            120,
                        )

            def verify(name, cluster):
                with cluster.session(name=f"check on {name}") as own:
                    while time.monotonic() < until:
                        found[name] += faults(own)
                        counts[name] += 1

            errors = run_together(
                (insert, 1),
                (insert, 2),
                (vacuum,),
                (verify, "primary", primary),
                (verify, "standby", standby),
            )
            check("no statement failed meanwhile", not errors, "; ".join(errors[:3]))
            for name, faults_found in found.items():
                check(
                    f"leann.check found no fault on the {name} while the index changed",
                    counts[name] >= 10 and not faults_found,
                    f"{len(faults_found)} in {counts[name]} checks: {faults_found[:5]}",
                )
            note(f"checks: {counts}")


PAGE, BODY = 8192, 24
MAGIC, HUB, NODE = b"LN", 3, 4
# crates/page/README.md
NODE_COUNT, NODE_HUB, NODE_POINTER_FORM, NODE_FIRST_POINTER = BODY + 8, BODY + 14, BODY + 20, BODY + 22
HUB_FIRST_ENTRY = BODY + 20


def kinds(data):
    return [
        data[start + BODY + 2] if data[start + BODY : start + BODY + 2] == MAGIC else None
        for start in range(0, len(data), PAGE)
    ]


def node_pages(data, of_kind):
    """Two node pages, the second with no fewer nodes than the first and pointers of the same form, so that
    its nodes can stand on the first."""
    by_form = {}
    for block in (block for block, kind in enumerate(of_kind) if kind == NODE):
        count, form = (
            data[block * PAGE + at : block * PAGE + at + 2] for at in (NODE_COUNT, NODE_POINTER_FORM)
        )
        by_form.setdefault(form, []).append((int.from_bytes(count, "little"), block))
    pages = sorted(max(by_form.values(), key=len))
    return pages[0][1], pages[-1][1]


def damages(data):
    """(what is done, the changed file, what the report must say)"""
    of_kind = kinds(data)
    node, other = node_pages(data, of_kind)
    hub = of_kind.index(HUB)

    def changed(block, at, what):
        return data[: block * PAGE + at] + what + data[block * PAGE + at + len(what) :]

    yield (
        "a node page names another slot",
        changed(node, NODE_HUB + 4, b"\x63\x00"),
        "a node page without a hub",
    )
    yield (
        "a hub speaks of another generation",
        changed(hub, HUB_FIRST_ENTRY + 8, b"\x07\x00\x00\x00"),
        "has generation 7",
    )
    yield (
        "a hub names a hub page",
        changed(hub, HUB_FIRST_ENTRY + 4, hub.to_bytes(4, "little")),
        "which is not a node page",
    )
    yield (
        "the chain ends in a node page",
        changed(hub, BODY + 8, node.to_bytes(4, "little")),
        "leads to a page of another kind",
    )
    yield (
        "a page's nodes are those of another",
        changed(node, NODE_FIRST_POINTER, data[other * PAGE + NODE_FIRST_POINTER : (other + 1) * PAGE]),
        "also on block",
    )


def test_damage_is_reported():
    with index_file() as index:
        for what, data, report in damages(index.whole):
            with index.damaged(data) as session:
                found = faults(session)
            check(f"{what}: leann.check says so", any(report in fault for fault in found), str(found[:5]))
