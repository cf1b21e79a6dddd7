#!/usr/bin/env python3
"""Measures recall and recomputes where the rows change their kind after the index was made.

    .build/venv/bin/python benches/drift.py FOLDER ... [--only WORD] [--queries N] [--reindexed]
        [--setting NAME=VALUE] [--figures docs/figures] [--csv FILE]

An index is made of some rows and learns from them; then rows of another subject or language come, and queries
about them. Other scenarios repeat one text in most rows, or mix subjects from the start. It all works as in
benches/sweep.py, without running a model. FOLDER holds the folders of the sets, each as benches/sweep.py
wants it: scifact, fiqa-pool, wiki50k and xquad. Scenarios whose sets are missing are left out.

With --reindexed, each index that grew is measured again after REINDEX: what its rows cost when it has learned
from all of them. There is a line for each scenario and kind of query; `recall p5` is the recall that 95 % of
the queries reach. --only takes the scenarios whose names contain a word.
"""

import argparse
import gzip
import pathlib
import re
from collections.abc import Callable
from typing import NamedTuple

import numpy

from chart import line_chart
from sweep import load, machine, make_index, measure, server, unit_rows, write_csv

FOLDERS = {"scifact": "scifact", "fiqa": "fiqa-pool", "wiki50k": "wiki50k"}
REINDEXED = ", REINDEXed"
FIGURES = ("recall@10", "recall p5", "recomputes", "p95", "pages")


class Scenario(NamedTuple):
    name: str
    sets: str
    asked: str  # whose queries
    rows: Callable  # takes the rows of `sets`; returns those there when the index is made, and those after


def shuffled(rows):
    return numpy.random.default_rng(3).permutation(rows)


def at_once(rows):
    return rows, rows[:0]


def repeated(text, others, total):
    """Others and so many copies of a text that there are `total` rows."""
    return at_once(shuffled(numpy.concatenate([others, numpy.repeat(text, total - len(others), axis=0)])))


def in_turn(some, others):
    """One of some, one of the others, and so on, until either ends."""
    number = min(len(some), len(others))
    return at_once(numpy.stack([some[:number], others[:number]], axis=1).reshape(2 * number, -1))


SCENARIOS = [
    Scenario("scifact, then fiqa", "scifact fiqa", "fiqa scifact", lambda s, f: (s, shuffled(f))),
    Scenario("scifact, then 40,000 of wiki50k", "scifact wiki50k", "wiki50k", lambda s, w: (s, w[:40000])),
    Scenario("500 of scifact among fiqa", "scifact fiqa", "scifact", lambda s, f: (f, shuffled(s)[:500])),
    Scenario("2,000 of scifact among fiqa", "scifact fiqa", "scifact", lambda s, f: (f, shuffled(s)[:2000])),
    Scenario("fiqa, then scifact", "scifact fiqa", "scifact", lambda s, f: (f, shuffled(s))),
    Scenario("wiki50k, then fiqa", "wiki50k fiqa", "fiqa wiki50k", lambda w, f: (w, shuffled(f))),
    Scenario("256 of scifact, then fiqa", "scifact fiqa", "fiqa", lambda s, f: (s[:256], f[:4800])),
    Scenario(
        "four texts, then fiqa",
        "scifact fiqa",
        "fiqa",
        lambda s, f: (numpy.repeat(s[:4], 250, axis=0), shuffled(f)),
    ),
    Scenario("a text in 50 % of rows", "scifact fiqa", "fiqa", lambda s, f: repeated(s[:1], f, 2 * len(f))),
    Scenario("a text in 90 % of rows", "scifact fiqa", "fiqa", lambda s, f: repeated(s[:1], f[:5000], 50000)),
    Scenario("a text in 98 % of rows", "scifact fiqa", "fiqa", lambda s, f: repeated(s[:1], f[:1000], 50000)),
    Scenario(
        "a text in 99.5 % of rows", "scifact fiqa", "fiqa", lambda s, f: repeated(s[:1], f[:500], 100000)
    ),
    Scenario("wiki50k, questions of other sets", "wiki50k", "wiki50k fiqa scifact", at_once),
    Scenario(
        "wiki50k and two others in turn",
        "wiki50k fiqa scifact",
        "fiqa scifact wiki50k",
        lambda w, f, s: in_turn(w[:20000], numpy.concatenate([f, s])),
    ),
    Scenario(
        "a language, then eleven others",
        "xquad-first xquad-others",
        "xquad",
        lambda first, others: (first, others),
    ),
]


def read(folders, queries):
    """Rows and queries of the sets that are below the folders, by name."""
    rows, asked = {}, {}
    for folder in folders:
        for name, subfolder in FOLDERS.items():
            if (folder / subfolder / "embeddings.f16.npy").exists():
                rows[name] = unit_rows(folder / subfolder / "embeddings.f16.npy")
                asked[name] = unit_rows(folder / subfolder / "query_embeddings.f16.npy", queries)
        xquad = folder / "xquad"
        if (xquad / "embeddings.f16.npy").exists():
            every = unit_rows(xquad / "embeddings.f16.npy")
            # Ids start with the code of the language.
            with gzip.open(xquad / "corpus.tsv.gz", "rt", encoding="utf-8") as corpus:
                languages = numpy.array([line.split("-")[0] for line in corpus])
            first = languages == languages[0]
            rows["xquad-first"], rows["xquad-others"] = every[first], every[~first]
            # Queries are in the order of languages too: some of each.
            every = unit_rows(xquad / "query_embeddings.f16.npy")
            asked["xquad"] = every[numpy.linspace(0, len(every) - 1, min(queries, len(every))).astype(int)]
    return rows, asked


def drift(session, scenario, rows, asked, settings, reindexed):
    """Lines of one scenario, as they come."""
    first, later = scenario.rows(*(rows[name] for name in scenario.sets.split()))
    every = numpy.concatenate([first, later])
    load(session, "source", every)
    make_index(session, f"n < {len(first)}")
    for again in [False, True] if reindexed and len(later) else [False]:
        if again:
            session.run("RESET ALL; REINDEX INDEX docs_v", 7200)
        size, advice = session.row("SELECT bytes, advice FROM leann.index_info('docs_v')")
        for kind in scenario.asked.split():
            load(session, "queries", asked[kind])
            figures = measure(session, settings, asked[kind] @ every.T)
            yield {
                "scenario": scenario.name + REINDEXED * again,
                "queries": kind,
                **{name: float(figures[name]) for name in FIGURES},
                "bytes/row": int(size) / len(every),
                "advice": advice or "",
            }


def show(line, head=False):
    """Prints a line below its head, which is that of the first one."""
    decimals = {"recall@10": 4, "recall p5": 2, "recomputes": 1, "p95": 0, "pages": 1, "bytes/row": 1}
    texts = {
        name: f"{value:.{decimals[name]}f}" if name in decimals else value for name, value in line.items()
    }
    for cells in [{name: name for name in line}, texts] if head else [texts]:
        columns = [f"{cells['scenario']:42} {cells['queries']:8}"]
        columns += [f"{cells[name]:>10}" for name in decimals]
        print(*columns, cells["advice"], flush=True)


def draw(lines, folder):
    """Recall against recomputes of the indexes that grew, before and after REINDEX, as an SVG."""
    again = {line["scenario"] for line in lines if line["scenario"].endswith(REINDEXED)}
    series = {"grown": [], "REINDEXed": []}
    for line in lines:
        point = (line["recomputes"], line["recall@10"])
        if line["scenario"] in again:
            series["REINDEXed"].append(point)
        elif line["scenario"] + REINDEXED in again:
            series["grown"].append(point)
    folder.mkdir(parents=True, exist_ok=True)
    chart = line_chart(
        "Rows of another kind, before and after REINDEX", "recomputes per query", "recall@10", series
    )
    # Scenarios have no order: no line joins their points.
    (folder / "drift.svg").write_text(re.sub(r'<path [^>]*fill="none"[^>]*/>\n', "", chart))


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="+", type=pathlib.Path)
    parser.add_argument("--only", action="append", metavar="WORD")
    parser.add_argument("--queries", type=int, default=300, metavar="N", help="of each set")
    parser.add_argument("--reindexed", action="store_true")
    parser.add_argument("--setting", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--figures", type=pathlib.Path, metavar="FOLDER", help="needs --reindexed")
    parser.add_argument("--csv", type=pathlib.Path, metavar="FILE")
    args = parser.parse_args()
    if args.figures and not args.reindexed:
        parser.error("--figures needs --reindexed")
    rows, asked = read(args.folders, args.queries)
    print(machine())
    lines = []
    with server() as session:
        for scenario in SCENARIOS:
            if args.only and not any(word in scenario.name for word in args.only):
                continue
            if missing := {*scenario.sets.split()} - {*rows} | {*scenario.asked.split()} - {*asked}:
                names = sorted({name.partition("-")[0] for name in missing})
                print(f"{scenario.name}: left out, no embeddings of {', '.join(names)}")
                continue
            for line in drift(session, scenario, rows, asked, args.setting, args.reindexed):
                show(line, head=not lines)
                lines.append(line)
    if args.csv and lines:
        write_csv(args.csv, lines)
    if args.figures and any(line["scenario"].endswith(REINDEXED) for line in lines):
        draw(lines, args.figures)


if __name__ == "__main__":
    main()
