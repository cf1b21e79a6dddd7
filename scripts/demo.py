#!/usr/bin/env python3
"""What `make demo` shows: a private server, real text, an index without embeddings, and searches by meaning.

    .build/venv/bin/python scripts/demo.py [--data FOLDER] [--model NAME] [--cluster .demo]

FOLDER is in the format of samples/README.md. The server stays up afterwards;
scripts/cluster.py remove .demo ends it.
"""

import argparse
import gzip
import os
import pathlib
import shutil
import sys
import textwrap
import time

from cluster import ROOT, Cluster
from pg import quote, unescape

TEXT = "title || ' ' || body"
SHOWN = 3  # passages per question
QUESTIONS = 5
WIDTH = min(110, shutil.get_terminal_size((100, 25)).columns)


def say(text=""):
    print(text, flush=True)


def heading(text):
    say(f"\n\033[1m{text}\033[0m" if sys.stdout.isatty() else f"\n== {text}")


def command(sql):
    """SQL that the reader could type, as it is run."""
    say("   " + sql)
    return sql


def load(session, data):
    heading(f"Text: {data}")
    session.run("DROP TABLE IF EXISTS docs CASCADE")
    session.run(command("CREATE TABLE docs (id text PRIMARY KEY, title text NOT NULL, body text NOT NULL);"))
    with gzip.open(data / "corpus.tsv.gz", "rt", encoding="utf-8", newline="\n") as file:
        session.copy_in("docs", (line.rstrip("\n").split("\t") for line in file), escaped=True)
    session.run("ANALYZE docs")
    rows, size = session.row(f"SELECT count(*), sum(octet_length({TEXT})) FROM docs")
    if not int(rows):
        raise SystemExit(f"{data}/corpus.tsv.gz has no rows")
    say(f"   {int(rows):,} passages, {megabytes(int(size))} of text")
    return int(rows), int(size)


def build(cluster, session):
    """CREATE INDEX, with the progress view read from a second session meanwhile."""
    heading("Index")
    sql = command(f"CREATE INDEX docs_embedding ON docs USING leann (embedding_of({TEXT}));")
    watcher = cluster.session(database="demo", name="leann demo, progress")
    begin = time.monotonic()
    session.send(sql)
    shown, line_at, terminal = "", 0.0, sys.stdout.isatty()
    while not session.answered(0.25):
        rows = watcher.rows(
            "SELECT phase, tuples_done, tuples_total, blocks_done, blocks_total"
            " FROM pg_stat_progress_create_index"
            f" WHERE pid = {session.pid}"
        )
        if not rows:
            continue
        phase, done, total, blocks, blocks_total = rows[0]
        share = f" {int(done):,} of {int(total):,} rows" if int(total) else ""
        if not share and int(blocks_total):
            share = f" {int(blocks):,} of {int(blocks_total):,} blocks"
        now = time.monotonic()
        text = f"   {now - begin:4.0f} s  {phase}{share}"
        if terminal:
            print("\r" + text.ljust(len(shown)), end="", flush=True)
            shown = text
        elif now - line_at >= 5 or phase != shown:
            say(text)
            shown, line_at = phase, now
    session.finish(24 * 3600)
    if terminal:
        print("\r" + " " * len(shown) + "\r", end="")
    watcher.close()
    seconds = time.monotonic() - begin
    rows = int(session.value("SELECT count(*) FROM docs"))
    say(f"   done in {seconds:.0f} s: {rows / seconds:.1f} passages a second, nearly all of it in the model")


def questions(data):
    """The queries named in questions.txt, else a few evenly spaced ones."""
    path = data / "queries.tsv.gz"
    if not path.exists():
        raise SystemExit(f"{path} is missing")
    with gzip.open(path, "rt", encoding="utf-8", newline="\n") as file:
        queries = [[unescape(field) for field in line.rstrip("\n").split("\t")] for line in file]
    chosen = data / "questions.txt"
    if chosen.exists():
        texts = dict(queries)
        return [texts[number] for number in chosen.read_text().split() if number in texts]
    return [queries[i * len(queries) // QUESTIONS][1] for i in range(min(QUESTIONS, len(queries)))]


def search(question):
    return (
        f"SELECT id, title, body, embedding_of({TEXT}) <-> {quote(question)} AS distance\n"
        f"   FROM docs ORDER BY embedding_of({TEXT}) <-> {quote(question)} LIMIT {SHOWN}"
    )


def ask(session, question):
    """One search with an empty cache, as after a restart; returns (rows, milliseconds, recomputes)."""
    session.run("SELECT leann.clear_cache()")
    begin = time.monotonic()
    rows = session.rows(search(question))
    milliseconds = (time.monotonic() - begin) * 1000
    return rows, milliseconds, int(session.value("SELECT recomputes FROM leann.last_scan()"))


def show_questions(session, asked):
    heading(f"Questions, and the best {SHOWN} passages for each (smaller distances are nearer)")
    costs = []
    for question in asked:
        rows, milliseconds, recomputes = ask(session, question)
        costs.append((milliseconds, recomputes))
        say(f"\n   {question}")
        say(f"   ({recomputes} passages recomputed, {milliseconds:.0f} ms)")
        for _, title, body, distance in rows:
            text = f"{title}: {body}" if title else body
            first, *more = textwrap.wrap(text, WIDTH - 12, max_lines=2, placeholder=" ...") or [""]
            say(f"     {float(distance):.3f}  {first}")
            for line in more:
                say(f"            {line}")
    say(
        f"\n   on average {sum(cost[1] for cost in costs) / len(costs):.1f} recomputes and "
        f"{sum(cost[0] for cost in costs) / len(costs):.0f} ms per question, with nothing cached"
    )


def show_plan(session, question):
    heading("The plan")
    sql = search(question)
    say("   EXPLAIN (COSTS OFF) " + sql + ";")
    plan = session.plan(sql)
    say(textwrap.indent(plan, "   | "))
    if "Index Scan using docs_embedding on docs" not in plan:
        raise SystemExit("error: the plan is not an Index Scan using the leann index")


def megabytes(size):
    return f"{size / 1e6:,.2f} MB" if size < 1e9 else f"{size / 1e9:,.2f} GB"


def pgvector_bytes(dimensions, m=16):
    """Bytes per row of pgvector's vector column and HNSW index (default m), by its page layout.

    A vector takes 8 bytes and a float for each dimension. In the index it takes an element tuple (72 bytes
    and the vector) and a neighbor tuple (4 bytes and 2 m heap pointers on level 0), each with a line
    pointer, both on one page of 8160 bytes.
    """
    vector = 8 + 4 * dimensions
    align = lambda size: -(-size // 8) * 8  # noqa: E731
    pair = align(72 + vector) + align(4 + 2 * m * 6) + 2 * 4
    return vector, 8192 / max(1, 8160 // pair)


def show_sizes(session, rows, text):
    heading("Sizes")
    table, index, dimensions = map(
        int,
        session.row(
            "SELECT pg_table_size('docs'), pg_relation_size('docs_embedding'),"
            " cardinality(leann.embed('a'::text))"
        ),
    )
    vector, graph = pgvector_bytes(dimensions)
    lines = [
        ("the text itself", text, ""),
        ("table docs", table, "Postgres compresses long texts"),
        ("leann index", index, "measured"),
        (f"pgvector: vector({dimensions}) column", round(vector * rows), "computed, not measured"),
        ("pgvector: HNSW index", round(graph * rows), "computed, not measured"),
    ]
    for name, size, remark in lines:
        say(f"   {name:<32} {megabytes(size):>12} {size / rows:>10,.0f} bytes a row   {remark}")
    say(
        f"   the leann index takes {index / text:.1%} of the text, "
        f"and 1/{(vector + graph) * rows / index:.0f} of what pgvector's vectors and index would"
    )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=pathlib.Path, default=ROOT / "samples" / "scifact")
    parser.add_argument("--model", default="all-MiniLM-L6-v2")
    parser.add_argument("--cluster", type=pathlib.Path, default=ROOT / ".demo")
    args = parser.parse_args()
    data = args.data.resolve()
    if not (data / "corpus.tsv.gz").exists():
        raise SystemExit(f"{data} holds no corpus.tsv.gz; the format is described in samples/README.md")
    asked = questions(data)

    heading(f"Server: a private cluster in {os.path.relpath(args.cluster)}, without a TCP port")
    cluster = Cluster(
        "shared_buffers=256MB",
        "maintenance_work_mem=256MB",
        f"leann.default_model={args.model}",
        directory=args.cluster,
    )
    with cluster.session() as session:
        if not session.rows("SELECT 1 FROM pg_database WHERE datname = 'demo'"):
            session.run("CREATE DATABASE demo")
    with cluster.session(database="demo", name="leann demo") as session:
        session.run("SET client_min_messages = warning")
        session.run(command("CREATE EXTENSION IF NOT EXISTS leann;"))
        rows, text = load(session, data)
        build(cluster, session)
        show_questions(session, asked)
        show_plan(session, asked[0])
        show_sizes(session, rows, text)
    heading("Your turn")
    say("   make psql                                  opens psql on this database")
    say(f"   SELECT title FROM docs ORDER BY embedding_of({TEXT}) <-> 'your question' LIMIT 5;")
    say("   SELECT * FROM leann.last_scan();           what the search did")
    say("   make demo DATA=/path/to/folder             the same with other text")


if __name__ == "__main__":
    main()
