#!/usr/bin/env python3
"""A model of more dimensions than a hub entry could hold: its indexes work, built and grown."""

import os
import pathlib
import shutil
import subprocess
import tempfile

from common import ROOT, SQL_SENTENCE, check, faults, main, skip, tiny_cluster

PYTHON = ROOT / ".build" / "venv" / "bin" / "python"
DIMENSIONS = 9_000
MAKE = """
import pathlib, sys
sys.path.insert(0, sys.argv[1])
import make_tiny
make_tiny.write_model(pathlib.Path(sys.argv[2]), int(sys.argv[3]), 3, "mean_tokens", {})
"""


def made(folder, dimensions):
    made_by = subprocess.run([PYTHON, "-c", MAKE, ROOT / "tests" / "models", folder, str(dimensions)], capture_output=True, text=True, check=False)
    if made_by.returncode:
        skip(f"no tools to make a model with: {made_by.stderr.strip().splitlines()[-1:]}")


def wide_model(models):
    with tiny_cluster("autovacuum=off") as cluster:
        cluster.stop()
        cluster.settings = [s for s in cluster.settings if not s.startswith(("leann.model_dir", "leann.default_model"))]
        cluster.settings += [f"leann.model_dir={cluster.readable(models)}", "leann.default_model=wide"]
        cluster.start()
        with cluster.session() as session:
            session.run(SQL_SENTENCE + ";CREATE TABLE docs (id int PRIMARY KEY, body text)")
            session.run("CREATE INDEX docs_embedding ON docs USING leann (embedding_of(body))", 600)
            session.run("INSERT INTO docs SELECT n, sentence(n) FROM generate_series(1, 60) n", 600)
            check("the index grew by splits", int(session.value("SELECT node_pages FROM leann.index_info('docs_embedding')")) > 5)
            works(session, "grown")
            session.run("REINDEX INDEX docs_embedding", 600)
            works(session, "built")


def works(session, name):
    check(f"{name}: leann.check is clean", not faults(session), str(faults(session)[:3]))
    session.run("SET enable_seqscan = off")
    wrong = [number for number in (1, 17, 60) if session.run(
        f"SELECT id FROM docs ORDER BY embedding_of(body) <-> embedding_of(sentence({number})) LIMIT 1") != [str(number)]]
    check(f"{name}: rows are found by their own texts", not wrong, str(wrong))


def of_many_dimensions():
    if not os.access(PYTHON, os.X_OK):
        skip("no Python with onnx in .build")
    folder = pathlib.Path(tempfile.mkdtemp(prefix="leann-wide.", dir="/tmp"))
    try:
        folder.chmod(0o755)
        made(folder / "wide", DIMENSIONS)
        wide_model(folder)
    finally:
        shutil.rmtree(folder)


main(of_many_dimensions)
