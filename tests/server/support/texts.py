"""Texts: random ones for the small model, real ones for the real one."""

import gzip
import itertools

from cluster import ROOT

# A few hundred words, so that many rows share some.
WORDS = [
    a + b
    for a in "ba ce di fo gu ha je ki lo mu na pe ri so tu va".split()
    for b in "ber lan mit nos pal rus sen tor vek wim xan yor zel dak fen".split()
]


def sentence(random, length=8):
    return " ".join(random.choice(WORDS) for _ in range(length))


# The same in SQL, where many rows are wanted.
SQL_SENTENCE = """
CREATE FUNCTION sentence(seed bigint) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT string_agg(substr(md5(seed::text || ' ' || n), 1, 2), ' ' ORDER BY n) FROM generate_series(1, 8) n
$$"""


def passages(limit=None):
    """Real passages, as lists of id, title and body in COPY text format."""
    with gzip.open(ROOT / "samples" / "scifact" / "corpus.tsv.gz", "rt", encoding="utf-8") as file:
        return [line.rstrip("\n").split("\t") for line in itertools.islice(file, limit)]
