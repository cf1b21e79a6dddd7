#!/usr/bin/env python3
"""Measures what leann costs on top of the model: searches, builds and inserts against ONNX Runtime alone.

    .build/venv/bin/python benches/costs.py FOLDER [--model NAME] [--rows 900] [--csv FILE]

FOLDER is in the format of samples/README.md. "ONNX Runtime alone" is its Python package, of the same version,
on the model's ONNX file and the same texts, with as many threads and its own defaults. The texts are sorted
by length and tokenized beforehand, and the vectors are not even pooled. It is measured with 32 rows to a
run, as most programs do, and with one, and the faster counts. Measurements of both alternate. The first
ratio is of time on the clock, the second of processor time, which is the one to believe on a shared machine.
"""

import argparse
import csv
import os
import pathlib
import platform
import statistics
import sys
import time

import numpy
import onnxruntime
from tokenizers import Tokenizer

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

from cluster import Cluster  # noqa: E402
from pg import quote, unescape  # noqa: E402
from recall import read_data  # noqa: E402

BUILDS = 3
QUERIES = 30
INSERTS = 60
TEXT = "title || ' ' || body"


class Alone:
    """ONNX Runtime without leann."""

    def __init__(self, folder, threads):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(
            str(folder / "onnx" / "model.onnx"), options, providers=["CPUExecutionProvider"]
        )
        self.inputs = {given.name for given in self.session.get_inputs()}
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(256)

    def seconds(self, texts):
        """Clock and processor seconds for all texts, by the faster way of the two."""
        rows = sorted(
            (encoding.ids for encoding in self.tokenizer.encode_batch(texts)), key=len, reverse=True
        )
        return min(self._run(rows, 32), self._run(rows, 1))

    def _run(self, rows, per_run):
        clock, processor = time.perf_counter(), time.process_time()
        for at in range(0, len(rows), per_run):
            now = rows[at : at + per_run]
            ids = numpy.zeros((len(now), len(now[0])), numpy.int64)
            mask = numpy.zeros_like(ids)
            for row, numbers in enumerate(now):
                ids[row, : len(numbers)], mask[row, : len(numbers)] = numbers, 1
            given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": numpy.zeros_like(ids)}
            self.session.run(None, {name: value for name, value in given.items() if name in self.inputs})
        return time.perf_counter() - clock, time.process_time() - processor


def spent(session, statement):
    """Clock and processor seconds that a session's backend takes for a statement."""

    def processor():
        with open(f"/proc/{session.pid}/stat", encoding="ascii") as file:
            return sum(map(int, file.read().rsplit(")", 1)[1].split()[11:13])) / os.sysconf("SC_CLK_TCK")

    before, clock = processor(), time.perf_counter()
    session.run(statement, 3600)
    return time.perf_counter() - clock, processor() - before


def line(what, ours, alone):
    """A line of the table from sums of (clock, processor) seconds."""
    (ours_clock, ours_processor), (alone_clock, alone_processor) = (
        map(sum, zip(*pairs)) for pairs in (ours, alone)
    )
    return {
        "what": what,
        "times": round(ours_clock / alone_clock, 2),
        "processor": round(ours_processor / alone_processor, 2),
    }


def load(session, name, docs):
    session.run(f"CREATE TABLE {name} (id text, title text, body text)")
    session.copy_in(name, docs, escaped=True)
    session.run(f"ANALYZE {name}")


def text_of(doc):
    return unescape(doc[1]) + " " + unescape(doc[2])


def builds(session, docs, alone):
    ours, theirs = [], []
    each = len(docs) // BUILDS
    for part in range(BUILDS):
        rows = docs[part * each : (part + 1) * each]
        load(session, f"part_{part}", rows)
        ours.append(spent(session, f"CREATE INDEX ON part_{part} USING leann (embedding_of({TEXT}))"))
        theirs.append(alone.seconds([text_of(row) for row in rows]))
    yield line(f"CREATE INDEX, {each} rows", ours, theirs)


def searches(session, docs, queries, alone, cores):
    load(session, "docs", docs)
    session.run(f"CREATE INDEX ON docs USING leann (embedding_of({TEXT}))", 3600)
    session.run("SET enable_seqscan = off")
    ours, theirs, one_core, again, recomputes = [], [], [], [], []
    for _, query in queries:
        search = f"SELECT {TEXT} FROM docs ORDER BY embedding_of({TEXT}) <-> {quote(query)} LIMIT "
        session.run("SELECT leann.clear_cache()")
        ours.append(spent(session, search + "10"))
        recomputes.append(int(session.value("SELECT recomputes FROM leann.last_scan()")))
        again.append(spent(session, search + "10"))
        texts = [row[0] for row in session.rows(search + str(recomputes[-1]))]
        theirs.append(tuple(map(sum, zip(alone.seconds(texts), alone.seconds([query])))))
        session.run("SELECT leann.clear_cache(); SET leann.threads = 1")
        one_core.append(spent(session, search + "10"))
        session.run("RESET leann.threads")
    yield line(f"a search, nothing cached, {statistics.mean(recomputes):.1f} recomputes", ours, theirs)
    yield {
        "what": "the same again, ms on the clock (95 %)",
        "times": round(1e3 * numpy.percentile([clock for clock, _ in again], 95), 2),
    }
    speedup = sum(clock for clock, _ in one_core) / sum(clock for clock, _ in ours)
    yield {"what": f"a search on one core against {cores}", "times": round(speedup, 2)}


def inserts(session, docs, alone):
    load(session, "grown", [])
    session.run(
        f"CREATE INDEX ON grown USING leann (embedding_of({TEXT})); "
        "SET synchronous_commit = off; SET leann.threads = 1;"
        "CREATE EXTENSION IF NOT EXISTS pg_walinspect; CHECKPOINT"
    )
    start = session.value("SELECT pg_current_wal_insert_lsn()")
    ours, theirs = [], []
    for doc in docs:
        values = ", ".join(quote(unescape(value)) for value in doc)
        ours.append(spent(session, f"INSERT INTO grown VALUES ({values})"))
        theirs.append(alone.seconds([text_of(doc)]))
    yield line("an INSERT, one core", ours, theirs)
    session.run("SET synchronous_commit = on; SELECT pg_switch_wal()")
    wal = session.value(
        f"SELECT record_size FROM pg_get_wal_stats('{start}', pg_current_wal_flush_lsn())"
        " WHERE \"resource_manager/record_type\" = 'Generic'"
    )
    yield {
        "what": "WAL bytes of the index per INSERT, full-page images aside",
        "times": round(float(wal) / len(docs), 1),
    }


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--model", default="all-MiniLM-L6-v2")
    parser.add_argument("--rows", type=int, default=900)
    parser.add_argument("--csv", type=pathlib.Path)
    args = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    data = read_data(args.folder.resolve(), args.rows, QUERIES)
    folder = ROOT / ".build" / "models" / args.model
    print(
        f"{platform.machine()}, {cores} cores, {platform.system()} {platform.release()}, "
        f"ONNX Runtime {onnxruntime.__version__}, "
        f"{args.model}, {args.folder.name}"
    )
    lines = []
    with (
        Cluster("shared_buffers=256MB", f"leann.default_model={args.model}", "autovacuum=off") as cluster,
        cluster.session() as session,
    ):
        session.run("CREATE EXTENSION leann")
        print(session.value("SELECT version()"))
        alone, alone_one = Alone(folder, cores), Alone(folder, 1)
        session.run("SELECT leann.embed('warm')")
        for part in (
            builds(session, data.docs, alone),
            searches(session, data.docs, data.queries, alone, cores),
            inserts(session, data.docs[:INSERTS], alone_one),
        ):
            for result in part:
                lines.append(result)
                print(f"{result['what']:60} {result['times']:8} {result.get('processor', ''):8}", flush=True)
    if args.csv:
        with args.csv.open("w", newline="") as file:
            writer = csv.DictWriter(file, ["what", "times", "processor"])
            writer.writeheader()
            writer.writerows(lines)


if __name__ == "__main__":
    main()
