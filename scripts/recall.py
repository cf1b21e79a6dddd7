#!/usr/bin/env python3
"""Measures recall, recomputes, pages and size of a leann index against exact search with the same model.

    .build/venv/bin/python scripts/recall.py --data FOLDER --own-cluster --cache .build/cache
        [--mode built --mode grown ...]

FOLDER is in the format of samples/README.md. The text of a row is its title and body joined with a space. The
server is that of PGHOST, PGPORT, ..., or with --own-cluster a private one, made and removed. All tables are
in schema leann_recall.

1. Truth: leann.embed embeds every row and query once, and the vectors stay in files under --cache. The exact
   50 nearest rows of each query come from a plain SQL ORDER BY over these vectors.
2. For each --mode an index is made, always from the text itself:
   built    CREATE INDEX on the full table
   grown    CREATE INDEX on the empty table, then inserts
   tenth    CREATE INDEX on every tenth row, then inserts of the others
3. Each query is asked with default settings (and --set) and an empty cache. EXPLAIN confirms that the index
   answers.

A returned row counts as found if it is no farther than the k-th nearest row, give or take 1e-6. Prints a
table, and with --csv adds lines to a file. The exit status is 1 if a bound (--min-recall, ...) fails.
"""

import argparse
import contextlib
import csv
import dataclasses
import gzip
import hashlib
import itertools
import math
import pathlib
import statistics
import sys
import time

from cluster import Cluster
from pg import Session, quote, unescape

ROW_TEXT = "title || ' ' || body"
CHUNK = 256  # texts embedded between two lines of progress: as many as leann.embed takes at once
TIE = 1e-6  # similarities nearer than this are equal
TRUTH = 50  # exact neighbours kept of each query

# What the extension calls things; the only place that knows.
SQL_FINGERPRINT = "SELECT fingerprint FROM leann.models WHERE name = {model}"
SQL_EMBED = "leann.embed_all({texts}, {model}, {role})"  # texts: text[]; gives the vectors in their order
SQL_LAST_SCAN = "SELECT pages, recomputes, late, model_ms FROM leann.last_scan()"
SQL_INDEX_INFO = "SELECT node_pages, pg_relation_size({index}) FROM leann.index_info({index})"
SQL_CHECK = "SELECT c::text FROM leann.check({index}) AS c"
SQL_CLEAR = "SELECT leann.clear_cache()"


def progress(text, end="\n"):
    print(text, end=end, file=sys.stderr, flush=True)


class Eta:
    """Lines of progress with the time left, at most one every few seconds."""

    def __init__(self, what, total, every=10.0):
        self.what, self.total, self.every = what, total, every
        self.start = self.last = time.monotonic()
        self.begun_at = None

    def at(self, done):
        now = time.monotonic()
        if self.begun_at is None:
            self.begun_at = done
        if done >= self.total:
            progress(f"   {self.what}: {self.total}, {now - self.start:.0f} s")
        elif now - self.last >= self.every and done > self.begun_at:
            left = (now - self.start) / (done - self.begun_at) * (self.total - done)
            progress(f"   {self.what}: {done} of {self.total}, about {left:.0f} s left")
            self.last = now


# ----------------------------------------------------------------------------------------------------
# Data


@dataclasses.dataclass
class Data:
    name: str
    docs: list  # (id, title, body), escaped as in the file
    queries: list  # (id, text), text as it is
    relevant: dict  # query id -> {doc id: score > 0}


def read_rows(path):
    with gzip.open(path, "rt", encoding="utf-8", newline="\n") as file:
        for line in file:
            yield line.rstrip("\n").split("\t")


def read_data(folder, limit_rows, limit_queries):
    """Returns the folder's data; with limits the first rows, and evenly spaced queries of those with a
    relevant row left."""
    docs = []
    for row in read_rows(folder / "corpus.tsv.gz"):
        if limit_rows and len(docs) == limit_rows:
            break
        docs.append(row)
    known = {unescape(row[0]) for row in docs}
    relevant = {}
    for query, doc, score in read_rows(folder / "qrels.tsv.gz"):
        if int(score) > 0 and unescape(doc) in known:
            relevant.setdefault(unescape(query), {})[unescape(doc)] = int(score)
    queries = [(unescape(row[0]), unescape(row[1])) for row in read_rows(folder / "queries.tsv.gz")]
    if limit_rows:
        queries = [query for query in queries if query[0] in relevant] or queries
    if limit_queries and limit_queries < len(queries):
        queries = [queries[i * len(queries) // limit_queries] for i in range(limit_queries)]
    return Data(folder.resolve().name, docs, queries, relevant)


def load(session, data):
    """Loads rows and queries, numbered in their order, so that chunks and samples are the same each time."""
    session.run(
        "DROP SCHEMA IF EXISTS leann_recall CASCADE; CREATE SCHEMA leann_recall;"
        "SET search_path = leann_recall, public;"
        "CREATE TABLE source (n int PRIMARY KEY, id text NOT NULL, title text NOT NULL, body text NOT NULL);"
        "CREATE TABLE queries (n int PRIMARY KEY, id text NOT NULL, body text NOT NULL)"
    )
    session.copy_in("source", ([str(n), *row] for n, row in enumerate(data.docs)), escaped=True)
    session.copy_in("queries", ([str(n), *row] for n, row in enumerate(data.queries)))
    session.run("ANALYZE source; ANALYZE queries")


# ----------------------------------------------------------------------------------------------------
# Truth


def cached_vectors(session, args, data, table, text, role):
    """Returns the file (COPY text format: n, vector) of the vectors of all rows of a table; computes those
    that it lacks."""
    fingerprint = session.value(SQL_FINGERPRINT.format(model=quote(args.model)))
    if fingerprint is None:
        raise SystemExit(f"the server has no usable model '{args.model}': SELECT * FROM leann.models")
    total = int(session.value(f"SELECT count(*) FROM {table}"))
    checksum = session.value(f"SELECT md5(string_agg(md5({text}), '' ORDER BY n)) FROM {table}")
    key = hashlib.sha256(f"{fingerprint} {role} {checksum}".encode()).hexdigest()[:16]
    path = args.cache / f"{data.name}-{role}-{total}-{key}.copy"
    args.cache.mkdir(parents=True, exist_ok=True)
    done = whole_lines(path)
    if done == total:
        progress(f"   vectors of {total} {table}: {path}")
        return path
    eta = Eta(f"embedding {table}", total)
    with path.open("a") as file:
        while done < total:
            eta.at(done)
            chunk = (
                f"(SELECT array_agg(n ORDER BY n) AS ns, array_agg({text} ORDER BY n) AS texts FROM {table}"
                f" WHERE n >= {done} AND n < {done + CHUNK}) AS chunk"
            )
            embed = SQL_EMBED.format(texts="texts", model=quote(args.model), role=quote(role))
            for line in session.run(
                f"COPY (SELECT v.* FROM {chunk}, ROWS FROM (unnest(ns), {embed}) AS v) TO STDOUT", 3600
            ):
                file.write(line + "\n")
            file.flush()
            done = min(total, done + CHUNK)
    eta.at(total)
    return path


def whole_lines(path):
    """Lines of a file, after cutting off one that an interrupted run left incomplete."""
    if not path.exists():
        return 0
    with path.open("rb+") as file:
        content = file.read()
        end = content.rfind(b"\n") + 1
        file.truncate(end)
    return content.count(b"\n")


def exact_search(session, args, data):
    """Fills `vectors`, `asked` and `exact`. Returns the exact neighbors of each query as {query id: [(doc id,
    similarity)]}."""
    progress("== truth: exact search over the vectors of leann.embed_all")
    rows = cached_vectors(session, args, data, "source", ROW_TEXT, "passage")
    queries = cached_vectors(session, args, data, "queries", "body", "query")
    for table, path in (("vectors", rows), ("asked", queries)):
        session.run(f"CREATE TABLE {table} (n int PRIMARY KEY, vector real[] NOT NULL)")
        with path.open(encoding="utf-8") as file:
            session.copy_in(table, (line.rstrip("\n").split("\t") for line in file), escaped=True)
        session.run(
            f"ALTER TABLE {table} ALTER vector TYPE leann.embedding USING vector::leann.embedding;"
            f"ANALYZE {table}",
            3600,
        )
    begin = time.monotonic()
    exact = {query[0]: [] for query in data.queries}
    for query, doc, similarity in session.rows(
        "SELECT q.id, s.id, - near.distance FROM asked JOIN queries q USING (n) CROSS JOIN LATERAL ("
        "SELECT n, distance"
        " FROM (SELECT v.n, v.vector <#> asked.vector AS distance FROM vectors v OFFSET 0) d"
        f" ORDER BY distance, n LIMIT {TRUTH}) near JOIN source s ON s.n = near.n"
        " ORDER BY q.n, near.distance, near.n",
        7200,
    ):
        exact[query].append((doc, float(similarity)))
    progress(f"   exact {TRUTH} nearest of {len(exact)} queries: {time.monotonic() - begin:.0f} s")
    return exact


# ----------------------------------------------------------------------------------------------------
# The index


def insert(session, condition, what):
    """Inserts the rows that meet the condition, a few hundred at a time."""
    numbers = [int(row[0]) for row in session.rows(f"SELECT n FROM source WHERE {condition} ORDER BY n")]
    eta = Eta(what, len(numbers))
    for at in range(0, len(numbers), CHUNK):
        eta.at(at)
        first, last = numbers[at], numbers[min(at + CHUNK, len(numbers)) - 1]
        session.run(
            f"INSERT INTO docs SELECT id, title, body FROM source"
            f" WHERE {condition} AND n BETWEEN {first} AND {last} ORDER BY n",
            3600,
        )
    eta.at(len(numbers))


def make_index(session, args, mode):
    """Table and index of one mode. Returns the seconds that CREATE INDEX and the inserts under it took."""
    progress(f"== index: {mode}")
    options = f" WITH ({', '.join(args.option)})" if args.option else ""
    create = f"CREATE INDEX docs_embedding ON docs USING leann (embedding_of({ROW_TEXT})){options}"
    before = {"built": "true", "grown": "false", "tenth": "n % 10 = 0"}[mode]
    session.run(
        "DROP TABLE IF EXISTS docs;"
        "CREATE TABLE docs (id text PRIMARY KEY, title text NOT NULL, body text NOT NULL);"
        f"INSERT INTO docs SELECT id, title, body FROM source WHERE {before} ORDER BY n; ANALYZE docs",
        600,
    )
    # The truth's vectors must not help.
    session.run(SQL_CLEAR)
    begin = time.monotonic()
    session.run(create, 4 * 3600)
    progress(f"   CREATE INDEX: {time.monotonic() - begin:.0f} s")
    if mode != "built":
        insert(session, f"NOT ({before})", "inserting")
    seconds = time.monotonic() - begin
    session.run("ANALYZE docs")
    faults = session.run(SQL_CHECK.format(index="'docs_embedding'"), 3600)
    if faults:
        raise SystemExit("leann.check finds faults:\n" + "\n".join(faults))
    return seconds


@dataclasses.dataclass
class Answer:
    ids: list
    pages: int
    recomputes: int
    late: int
    milliseconds: float


def ask(session, query, limit):
    """One cold search."""
    session.run(SQL_CLEAR)
    select = f"SELECT id FROM docs ORDER BY embedding_of({ROW_TEXT}) <-> {quote(query)} LIMIT {limit}"
    plan = session.plan(select)
    if "Index Scan using docs_embedding" not in plan:
        raise SystemExit(f"the index is not used:\n{plan}")
    begin = time.monotonic()
    ids = [row[0] for row in session.rows(select)]
    milliseconds = (time.monotonic() - begin) * 1000
    pages, recomputes, late, _ = session.row(SQL_LAST_SCAN)
    return Answer(ids, int(pages), int(recomputes), int(late), milliseconds)


# ----------------------------------------------------------------------------------------------------
# Figures


def similarities(session, answers):
    """The exact similarity of every row that was returned, as {(query id, doc id): similarity}."""
    session.run("DROP TABLE IF EXISTS returned; CREATE TABLE returned (query_id text, doc_id text)")
    session.copy_in("returned", ([query, doc] for query, answer in answers.items() for doc in answer.ids))
    return {
        (query, doc): float(similarity)
        for query, doc, similarity in session.rows(
            "SELECT q.id, s.id, - (v.vector <#> a.vector) FROM returned r"
            " JOIN queries q ON q.id = r.query_id JOIN source s ON s.id = r.doc_id"
            " JOIN asked a ON a.n = q.n JOIN vectors v ON v.n = s.n",
            600,
        )
    }


def recall(ids, near, similarity, k):
    """Share of the k nearest that were returned among the first k; a row as near as the k-th counts."""
    near = near[:k]
    kth = near[-1][1]
    return min(len(near), sum(similarity[doc] >= kth - TIE for doc in dict.fromkeys(ids[:k]))) / len(near)


def ndcg(ids, relevant, k=10):
    """nDCG with linear gains, as BEIR and trec_eval have it."""
    gain = sum(relevant.get(doc, 0) / math.log2(rank + 2) for rank, doc in enumerate(ids[:k]))
    ideal = sum(
        score / math.log2(rank + 2) for rank, score in enumerate(sorted(relevant.values(), reverse=True)[:k])
    )
    return gain / ideal


def percentile(values, share):
    return sorted(values)[min(len(values) - 1, math.ceil(share * len(values)) - 1)]


def measure(session, args, data, exact, mode):
    """All figures of one index, in the order of the table's columns."""
    seconds = make_index(session, args, mode)
    eta = Eta("asking", len(data.queries))
    answers = {}
    for number, (query, text) in enumerate(data.queries):
        eta.at(number)
        answers[query] = ask(session, text, max(args.k, 10))
    eta.at(len(data.queries))

    known = similarities(session, answers)
    for query, answer in answers.items():
        seen = [known[query, doc] for doc in answer.ids]
        if len(set(answer.ids)) < len(answer.ids):
            raise SystemExit(f"query {query}: a row was returned twice")
        if args.strict_order and any(later > earlier + 1e-5 for earlier, later in itertools.pairwise(seen)):
            raise SystemExit(f"query {query}: rows are not in the order of their distance: {seen}")
    node_pages, size = map(int, session.row(SQL_INDEX_INFO.format(index="'docs_embedding'")))
    similar = {query: {doc: known[query, doc] for doc in answer.ids} for query, answer in answers.items()}
    judged = [query for query in answers if query in data.relevant]
    mean = lambda values: statistics.fmean(values) if (values := list(values)) else math.nan  # noqa: E731
    return {
        "data": data.name,
        "index": mode,
        "rows": len(data.docs),
        "queries": len(answers),
        "recall@3": mean(recall(a.ids, exact[q], similar[q], 3) for q, a in answers.items()),
        f"recall@{args.k}": mean(recall(a.ids, exact[q], similar[q], args.k) for q, a in answers.items()),
        "nDCG@10": mean(ndcg(answers[q].ids, data.relevant[q]) for q in judged),
        "exact nDCG@10": mean(ndcg([doc for doc, _ in exact[q]], data.relevant[q]) for q in judged),
        "recomputes": mean(a.recomputes for a in answers.values()),
        "p95": percentile([a.recomputes for a in answers.values()], 0.95),
        "pages": mean(a.pages for a in answers.values()),
        "of pages": node_pages,
        "page share": mean(a.pages for a in answers.values()) / max(1, node_pages),
        "bytes/row": size / len(data.docs),
        "late": sum(a.late for a in answers.values()),
        "ms/query": mean(a.milliseconds for a in answers.values()),
        "index s": seconds,
    }


FORMATS = {
    "recomputes": ".1f",
    "pages": ".1f",
    "page share": ".2f",
    "bytes/row": ".1f",
    "ms/query": ".0f",
    "index s": ".0f",
}


def shown(name, value):
    if isinstance(value, float):
        return format(value, FORMATS.get(name, ".4f"))
    return str(value)


def print_table(results):
    """A Markdown table, so that it can go into a README as it is."""
    names = list(results[0])
    cells = [names] + [[shown(name, row[name]) for name in names] for row in results]
    widths = [max(len(row[i]) for row in cells) for i in range(len(names))]
    for number, row in enumerate(cells):
        print("| " + " | ".join(cell.rjust(width) for cell, width in zip(row, widths)) + " |")
        if number == 0:
            print("|" + "|".join("-" * (width + 1) + ":" for width in widths) + "|")
    sys.stdout.flush()


def write_csv(path, results):
    new = not path.exists()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, list(results[0]))
        if new:
            writer.writeheader()
        writer.writerows({name: shown(name, value) for name, value in row.items()} for row in results)


def failed_bounds(args, row):
    """What the bounds given on the command line forbid, as sentences."""
    checks = [
        (
            args.min_recall,
            f"recall@{args.k}",
            row[f"recall@{args.k}"],
            lambda value, bound: value >= bound,
            "at least",
        ),
        (
            args.max_recomputes,
            "recomputes",
            row["recomputes"],
            lambda value, bound: value <= bound,
            "at most",
        ),
        (args.max_bytes, "bytes/row", row["bytes/row"], lambda value, bound: value <= bound, "at most"),
        (
            args.max_page_share,
            "page share",
            row["page share"],
            lambda value, bound: value <= bound,
            "at most",
        ),
        (
            args.max_ndcg_loss,
            "loss of nDCG@10",
            row["exact nDCG@10"] - row["nDCG@10"],
            lambda value, bound: math.isnan(value) or value <= bound,
            "at most",
        ),
    ]
    return [
        f"{row['index']}: {name} is {value:.4f}, wanted {words} {bound:g}"
        for bound, name, value, holds, words in checks
        if bound is not None and not holds(value, bound)
    ]


# ----------------------------------------------------------------------------------------------------


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=pathlib.Path, required=True, metavar="FOLDER")
    parser.add_argument(
        "--mode", action="append", choices=["built", "grown", "tenth"], help="may be repeated; default built"
    )
    parser.add_argument("--limit-rows", type=int, metavar="N")
    parser.add_argument("--limit-queries", type=int, metavar="N")
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--model", default="all-MiniLM-L6-v2")
    parser.add_argument(
        "--set", action="append", default=[], metavar="GUC=VALUE", help="a setting for the searches"
    )
    parser.add_argument(
        "--option", action="append", default=[], metavar="NAME=VALUE", help="an option of the index"
    )
    parser.add_argument("--cache", type=pathlib.Path, default=pathlib.Path(".build/cache"), metavar="FOLDER")
    parser.add_argument("--own-cluster", action="store_true", help="a private cluster instead of PGHOST's")
    parser.add_argument("--cluster-setting", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--csv", type=pathlib.Path)
    parser.add_argument(
        "--no-strict-order",
        dest="strict_order",
        action="store_false",
        help="do not check that rows come in the order of their distance"
        " (leann.max_recompute, relaxed_order)",
    )
    bounds = parser.add_argument_group("bounds; the exit status is 1 if one fails")
    bounds.add_argument("--min-recall", type=float, metavar="X")
    bounds.add_argument("--max-recomputes", type=float, metavar="Y")
    bounds.add_argument("--max-bytes", type=float, metavar="Z", help="bytes of index per row")
    bounds.add_argument("--max-page-share", type=float, metavar="W", help="mean share of the node pages read")
    bounds.add_argument("--max-ndcg-loss", type=float, metavar="L")
    args = parser.parse_args()
    args.mode = args.mode or ["built"]
    if args.k > TRUTH:
        parser.error(f"--k can be at most {TRUTH}")
    for setting in args.set + args.cluster_setting:
        if "=" not in setting:
            parser.error(f"not of the form name=value: {setting}")
    return args


def main():
    args = arguments()
    data = read_data(args.data, args.limit_rows, args.limit_queries)
    progress(f"== {data.name}: {len(data.docs)} rows, {len(data.queries)} queries, model {args.model}")
    with contextlib.ExitStack() as stack:
        if args.own_cluster:
            cluster = stack.enter_context(
                Cluster("shared_buffers=256MB", "maintenance_work_mem=256MB", *args.cluster_setting)
            )
            session = stack.enter_context(cluster.session())
        else:
            session = stack.enter_context(Session())
        session.run(
            "SET client_min_messages = warning; CREATE EXTENSION IF NOT EXISTS leann;"
            f"SET leann.default_model = {quote(args.model)}"
        )
        load(session, data)
        exact = exact_search(session, args, data)
        for setting in args.set:
            name, value = setting.split("=", 1)
            session.run(f"SET {name} = {quote(value)}")
        results = [measure(session, args, data, exact, mode) for mode in args.mode]
        session.run("DROP SCHEMA leann_recall CASCADE")
    print_table(results)
    if args.csv:
        write_csv(args.csv, results)
    failures = [failure for row in results for failure in failed_bounds(args, row)]
    for failure in failures:
        print(f"FAILED: {failure}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
