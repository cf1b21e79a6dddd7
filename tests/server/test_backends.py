"""What the real model costs in each of many backends: little memory of their own, since its weights are
shared. LEANN_SOAK=1: in 50 of them."""

import pytest

from cluster import ROOT
from support.checks import SOAK, check, note
from support.processes import memory
from support.texts import passages

BACKENDS = 50 if SOAK else 20
PRIVATE_LIMIT = 25  # MB that a backend may hold beyond a plain one
ROWS = 60


@pytest.mark.cluster("leann.threads=1", model="real")
def test_many_backends(cluster):
    with cluster.session() as first:
        first.run("CREATE TABLE docs (id text, title text, body text)")
        first.copy_in("docs", passages(ROWS), escaped=True)
        first.run("CREATE INDEX docs_embedding ON docs USING leann (embedding_of(title || ' ' || body))", 600)
        sessions = [cluster.session(name=f"backend {number}") for number in range(BACKENDS)]
        plain = []
        for session in sessions:
            # A plain backend that has read the same catalogs and table.
            session.run(
                "SELECT count(*) FROM docs;"
                "SELECT count(*) FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid"
            )
            plain.append(memory(session.pid))
        for session in sessions:
            session.run("SET enable_seqscan = off")
            session.rows(
                "SELECT id FROM docs ORDER BY embedding_of(title || ' ' || body) <-> 'how do vaccines work'"
                " LIMIT 5"
            )
        searched = [memory(session.pid) for session in sessions]
        more = [after[0] - before[0] for before, after in zip(plain, searched, strict=True)]
        mapped = (ROOT / ".build" / "models" / "all-MiniLM-L6-v2" / "onnx").glob("model.mapped.*")
        model = sum(path.stat().st_size for path in mapped) / 1e6
        note(
            f"private memory beyond a plain backend: {min(more):.1f} to {max(more):.1f} MB; "
            f"{BACKENDS} backends together (PSS): {sum(pss for _, pss in searched):.0f} MB, with a model of"
            f" {model:.0f} MB"
        )
        check(
            f"a backend that has searched holds at most {PRIVATE_LIMIT} MB more than a plain one",
            max(more) <= PRIVATE_LIMIT,
            str(sorted(more)),
        )
        check(
            "backends share the model",
            sum(pss for _, pss in searched) - sum(pss for _, pss in plain)
            <= model + 30 + PRIVATE_LIMIT * BACKENDS,
        )
        for session in sessions:
            session.close()
