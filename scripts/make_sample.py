#!/usr/bin/env python3
"""Cuts a small sample out of a data folder, the same one each time it is run.

    scripts/make_sample.py SOURCE DEST [--passages 1200] [--queries 100] [--questions ID,ID,...]

SOURCE and DEST are folders in the project's data format (samples/README.md): corpus.tsv.gz, queries.tsv.gz
and qrels.tsv.gz in Postgres COPY text format. The sample holds evenly spaced queries (the given questions
among them), every passage judged for one of these, and evenly spaced other passages up to the wanted number,
all in their original order. README.md and the license text of DEST are written by hand.
"""

import argparse
import gzip
import io
import pathlib


def read(path):
    """The rows of one file, each a list of fields as they stand (escapes untouched)."""
    with gzip.open(path, "rt", encoding="utf-8", newline="\n") as file:
        return [line.rstrip("\n").split("\t") for line in file]


def write(path, rows):
    """Rows as a gzip file whose bytes depend on the rows alone: no time, no file name in the header."""
    text = "".join("\t".join(row) + "\n" for row in rows).encode("utf-8")
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", fileobj=buffer, mode="wb", compresslevel=9, mtime=0) as file:
        file.write(text)
    path.write_bytes(buffer.getvalue())
    print(f"{path}: {len(rows)} rows, {len(buffer.getvalue()):,} bytes")


def spaced(items, count):
    """`count` items (or all) at equal distances."""
    if count >= len(items):
        return list(items)
    return [items[i * len(items) // count] for i in range(count)]


def choose_queries(queries, count, questions):
    """The questions and evenly spaced others, in their original order."""
    wanted = set(questions)
    missing = wanted - {query[0] for query in queries}
    if missing:
        raise SystemExit(f"no such query: {', '.join(sorted(missing))}")
    others = [query[0] for query in queries if query[0] not in wanted]
    wanted.update(spaced(others, count - len(wanted)))
    return [query for query in queries if query[0] in wanted]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=pathlib.Path)
    parser.add_argument("dest", type=pathlib.Path)
    parser.add_argument("--passages", type=int, default=1200)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument(
        "--questions", default="", help="query ids for the demo, written to questions.txt in this order"
    )
    args = parser.parse_args()

    corpus = read(args.source / "corpus.tsv.gz")
    questions = [part for part in args.questions.split(",") if part]
    queries = choose_queries(read(args.source / "queries.tsv.gz"), args.queries, questions)
    asked = {query[0] for query in queries}
    qrels = [row for row in read(args.source / "qrels.tsv.gz") if row[0] in asked]

    judged = {row[1] for row in qrels}
    absent = judged - {passage[0] for passage in corpus}
    if absent:
        raise SystemExit(f"judged passages that the corpus lacks: {', '.join(sorted(absent))}")
    others = [passage[0] for passage in corpus if passage[0] not in judged]
    kept = judged | set(spaced(others, args.passages - len(judged)))

    args.dest.mkdir(parents=True, exist_ok=True)
    write(args.dest / "corpus.tsv.gz", [passage for passage in corpus if passage[0] in kept])
    write(args.dest / "queries.tsv.gz", queries)
    write(args.dest / "qrels.tsv.gz", qrels)
    if questions:
        (args.dest / "questions.txt").write_text("".join(f"{question}\n" for question in questions))


if __name__ == "__main__":
    main()
