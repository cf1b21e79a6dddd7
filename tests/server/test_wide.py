"""A model of more dimensions than a hub entry could hold: its indexes work, built and grown."""

import subprocess
import sys

import pytest

from support.checks import check
from support.clusters import MODELS, use_models
from support.index import faults
from support.texts import SQL_SENTENCE

DIMENSIONS = 9_000
MAKE = """
import pathlib, sys
sys.path.insert(0, sys.argv[1])
import make_tiny
make_tiny.write_model(pathlib.Path(sys.argv[2]), int(sys.argv[3]), 3, "mean_tokens", {})
"""


def make_model(folder, dimensions):
    """In a process of its own, which takes much memory."""
    command = [sys.executable, "-c", MAKE, MODELS, folder, str(dimensions)]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"no tools to make a model with: {made.stderr.strip().splitlines()[-1:]}")


@pytest.mark.cluster("autovacuum=off")
def test_many_dimensions(cluster, open_folder):
    make_model(open_folder / "wide", DIMENSIONS)
    use_models(cluster, open_folder, default="wide")
    with cluster.session() as session:
        session.run(SQL_SENTENCE + ";CREATE TABLE docs (id int PRIMARY KEY, body text)")
        session.run("CREATE INDEX docs_embedding ON docs USING leann (embedding_of(body))")
        session.run("INSERT INTO docs SELECT n, sentence(n) FROM generate_series(1, 60) n")
        node_pages = int(session.value("SELECT node_pages FROM leann.index_info('docs_embedding')"))
        check("the index grew by splits", node_pages > 5)
        works(session, "grown")
        session.run("REINDEX INDEX docs_embedding")
        works(session, "built")


def works(session, name):
    check(f"{name}: leann.check is clean", not faults(session), str(faults(session)[:3]))
    session.run("SET enable_seqscan = off")
    wrong = [
        number
        for number in (1, 17, 60)
        if session.run(
            f"SELECT id FROM docs ORDER BY embedding_of(body) <-> embedding_of(sentence({number})) LIMIT 1"
        )
        != [str(number)]
    ]
    check(f"{name}: rows are found by their own texts", not wrong, str(wrong))
