"""The default model in 8 bits beside the default model: seen, indexed, searched, and as light in a
backend."""

import pytest

from pg import quote
from support.checks import check, note
from support.index import faults
from support.processes import memory
from support.texts import passages

MODEL = "all-MiniLM-L6-v2-int8"
ROWS = 60
PRIVATE_LIMIT = 25  # MB that a backend may hold beyond a plain one
OWN = f"embedding_of(body, {quote(MODEL)})"
QUESTION = "how do vaccines work"


@pytest.mark.cluster("leann.threads=1", model="real")
def test_beside_the_default_model(cluster, session):
    seen = dict(session.rows("SELECT name, fingerprint FROM leann.models WHERE ready"))
    check(
        "the server sees both models, as two",
        seen.get(MODEL, "") != "" and len(set(seen.values())) == len(seen),
        str(seen),
    )
    session.run("CREATE TABLE docs (id int, body text)")
    rows = [[str(number), body] for number, (_, _, body) in enumerate(passages(ROWS))]
    session.copy_in("docs", rows, escaped=True)
    session.run(f"CREATE INDEX docs_embedding ON docs USING leann ({OWN})", 600)
    check(
        "the index is the model's",
        session.value("SELECT model FROM leann.index_info('docs_embedding')") == MODEL,
    )
    check("and sound", not faults(session))
    with cluster.session() as fresh:
        fresh.run(
            "SELECT count(*) FROM docs;"
            "SELECT count(*) FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid"
        )
        before = memory(fresh.pid)[0]
        found = nearest(fresh, exact=False)
        more = memory(fresh.pid)[0] - before
        note(f"private memory beyond a plain backend: {more:.1f} MB")
        check(
            f"a backend that has searched holds at most {PRIVATE_LIMIT} MB more than a plain one",
            more <= PRIVATE_LIMIT,
            f"{more:.1f}",
        )
    # Embedded in batches by the build, a few at a time by the search, all at once here.
    check(
        "a search finds what exact search finds, at the same distances",
        found == nearest(session, exact=True),
        f"{found} and {nearest(session, exact=True)}",
    )
    cosine = float(session.value(f"SELECT 1 - (embedding_of(body) <=> {OWN}::real[]) FROM docs WHERE id = 1"))
    check("and its embeddings are near those of the default model", 0.99 < cosine < 0.99999, str(cosine))


def nearest(session, exact):
    session.run(
        f"SET enable_indexscan = {'off' if exact else 'on'}; SET enable_seqscan = {'on' if exact else 'off'}"
    )
    return session.rows(
        f"SELECT id, {OWN} <-> {quote(QUESTION)} FROM docs ORDER BY {OWN} <-> {quote(QUESTION)} LIMIT 5"
    )
