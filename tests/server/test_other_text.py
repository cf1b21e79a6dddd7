"""Text of another kind than the index was built on, with the real model: built over abstracts on medicine and
biology, grown with the paragraphs of this project's own documentation. Both kinds are found, the index says
that the new rows do not fit, and a REINDEX fits them. VACUUM says so once."""

import gzip
import itertools
import re

import pytest

from cluster import ROOT
from pg import quote
from support.checks import check, note
from support.index import faults

ABSTRACTS, PARAGRAPHS, QUESTIONS = 400, 320, 20
INFO = "SELECT nodes, untrained_rows, untrained_rows_at_build, coalesce(advice, '') FROM leann.index_info({})"


def abstracts():
    with gzip.open(ROOT / "samples" / "scifact" / "corpus.tsv.gz", "rt", encoding="utf-8") as file:
        return [line.split("\t")[2][:600] for line in itertools.islice(file, ABSTRACTS)]


def paragraphs():
    """Prose of the documentation, in the order of the files."""
    files = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "src" / "am" / "README.md"]
    blocks = itertools.chain.from_iterable(re.split(r"\n\s*\n", file.read_text()) for file in files)
    prose = [" ".join(block.split()) for block in blocks if not re.match(r"\s*([#|!`]|    )", block)]
    return [block[:600] for block in prose if len(block) > 120][:PARAGRAPHS]


def opening(text):
    """What someone might type who looks for a text."""
    return " ".join(text.split()[:9])


def recall(session, questions):
    """Mean recall@10 and recomputes of the index."""
    asked = ", ".join(quote(question) for question in questions)
    row = session.row(
        f"SELECT avg(recall), avg(recomputes) FROM leann.recall('docs_embedding', ARRAY[{asked}], 10)", 600
    )
    return float(row[0]), float(row[1])


@pytest.mark.cluster("autovacuum=off", "maintenance_work_mem=256MB", model="real")
def test_other_text(session):
    old, new = abstracts(), paragraphs()
    session.run("CREATE TABLE docs (id serial PRIMARY KEY, body text)")
    session.copy_in("docs (body)", ([text] for text in old), escaped=True)
    session.run("CREATE INDEX docs_embedding ON docs USING leann (embedding_of(body))", 600)
    session.copy_in("docs (body)", ([text] for text in new))
    check("leann.check is clean", not faults(session))
    questions = {"abstracts": old[:: len(old) // QUESTIONS], "paragraphs": new[:: len(new) // QUESTIONS]}
    for kind, texts in questions.items():
        found, recomputes = recall(session, [opening(text) for text in texts])
        note(f"{kind}: recall {found:.3f} of {recomputes:.1f} recomputes")
        check(f"{kind} are found", found >= 0.94, f"{found:.3f}")
        check(f"{kind} at moderate cost", recomputes <= 60, f"{recomputes:.1f}")
    _, untrained, at_build, _ = session.row(INFO.format("'docs_embedding'"))
    check(
        "the index knows which rows do not fit",
        int(untrained) - int(at_build) > len(new) / 2 and int(at_build) < len(old) / 5,
        f"{untrained} now, {at_build} when built",
    )
    session.run("REINDEX INDEX docs_embedding", 600)
    found, _ = recall(session, [opening(text) for text in questions["paragraphs"]])
    _, untrained, at_build, _ = session.row(INFO.format("'docs_embedding'"))
    check("after a REINDEX the paragraphs are found", found >= 0.94, f"{found:.3f}")
    check("and fit", int(untrained) < (len(old) + len(new)) / 4, untrained)


SUBJECTS = """
CREATE FUNCTION note(subject int, n int) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT string_agg(left(md5(subject || ' ' || (n * 7 + w * w * 3) % 12), 5), ' ')
    FROM generate_series(1, 7) w
$$;
CREATE TABLE docs (id serial PRIMARY KEY, body text);
INSERT INTO docs (body) SELECT note(1, n) || ' ' || n FROM generate_series(1, 900) n;
CREATE INDEX docs_embedding ON docs USING leann (embedding_of(body)) WITH (sketch_bytes = 12);
"""


@pytest.mark.cluster("autovacuum=off")
def test_vacuum_says_so_once(cluster, session):
    """Also on a table that only grows, of which VACUUM removes nothing."""

    def said():
        return len(
            re.findall(r'% of the rows of index "docs_embedding" do not fit its sketch', cluster.log())
        )

    session.run(SUBJECTS)
    session.run("VACUUM docs")
    check("nothing is said of a fresh index", said() == 0)
    more = (
        "INSERT INTO docs (body) SELECT note({}, n) || ' more ' || n FROM generate_series(1, {}) n;"
        "VACUUM docs"
    )
    session.run(more.format(1, 300))
    check("nor of more rows of the same kind", said() == 0)
    session.run(
        "INSERT INTO docs (body) SELECT note(2 + n % 3, n) || ' ' || n FROM generate_series(1, 900) n"
    )
    check("inserts say nothing", said() == 0)
    session.run("VACUUM docs")
    check("VACUUM says once that many rows do not fit", said() == 1, cluster.tail())
    session.run(
        "INSERT INTO docs (body) SELECT note(5, n) || ' ' || n FROM generate_series(1, 600) n; VACUUM docs"
    )
    session.run("DELETE FROM docs WHERE id % 10 = 0; VACUUM docs")
    check("and no more while that stays so", said() == 1)
    session.run("REINDEX INDEX docs_embedding; VACUUM docs")
    nodes, untrained, at_build, advice = session.row(INFO.format("'docs_embedding'"))
    check("a REINDEX is the cure", untrained == at_build and not advice, f"{untrained} of {nodes}, {advice}")
