"""What is on the pages of an index and of its table, read from their files: the heap pointers that an index
holds, and those that it ought to hold. An ordered scan cannot tell: it drops what no snapshot sees."""

import pathlib
import struct
from collections import Counter

from support.checks import check

PAGE = 8192
NODE, FREE = 4, 5  # kinds of pages: crates/page/README.md
REDIRECT, NORMAL = 2, 1  # states of a line pointer
HEAP_ONLY = 0x8000  # in a row version's infomask2: a member of a HOT chain that no index points to


def pages(session, relation):
    """The pages of a relation, as of a checkpoint made now."""
    session.run("CHECKPOINT")
    path = pathlib.Path(
        session.run("SHOW data_directory")[0], session.value(f"SELECT pg_relation_filepath('{relation}')")
    )
    data = path.read_bytes()
    return [data[start : start + PAGE] for start in range(0, len(data), PAGE)]


def kind(page):
    """What kind of page of an index this is."""
    return page[26] if page[24:26] == b"LN" else None


def blocks_of_kind(session, index, wanted):
    return {block for block, page in enumerate(pages(session, index)) if kind(page) == wanted}


def index_pointers(session, index):
    """How often each heap pointer (block, offset) occurs on the node pages."""
    found = Counter()
    for body in (page[24:] for page in pages(session, index) if kind(page) == NODE):
        count, size, offset_bits = struct.unpack_from("<H", body, 8)[0], body[20], body[21]
        slots = (
            int.from_bytes(body[22 + size * slot : 22 + size * (slot + 1)], "little") for slot in range(count)
        )
        found.update((number >> offset_bits, number & (1 << offset_bits) - 1) for number in slots)
    return found


def table_pointers(session, table):
    """The heap pointers of all rows, that of a HOT chain being its root. For a table that was vacuumed when
    nobody wrote."""
    found = set()
    for block, page in enumerate(pages(session, table)):
        lower = struct.unpack_from("<H", page, 12)[0]
        for number in range((lower - 24) // 4):
            pointer = struct.unpack_from("<I", page, 24 + 4 * number)[0]
            at, state = pointer & 0x7FFF, pointer >> 15 & 3
            if state == REDIRECT or (
                state == NORMAL and not struct.unpack_from("<H", page, at + 18)[0] & HEAP_ONLY
            ):
                found.add((block, number + 1))
    return found


def same_pointers(name, session, index="docs_embedding", table="docs"):
    """After a VACUUM in quiet (made here), the index points to each row once and to nothing else.

    INDEX_CLEANUP: where dead rows lie on fewer than 2 % of the pages, VACUUM would leave them and what points
    to them. FREEZE: it waits for pages that the background writer has pinned instead of leaving their dead
    rows."""
    session.run(f"VACUUM (FREEZE, INDEX_CLEANUP ON) {table}")
    wanted, found = table_pointers(session, table), index_pointers(session, index)
    doubled = [pointer for pointer, count in found.items() if count > 1]
    dangling, missing = sorted(set(found) - wanted), sorted(wanted - set(found))
    return check(
        name,
        wanted and not doubled and not dangling and not missing,
        f"{len(wanted)} rows; dangling: {dangling[:10]}, missing: {missing[:10]}, doubled: {doubled[:10]}",
    )
