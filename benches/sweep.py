#!/usr/bin/env python3
"""Measures recall over a range of settings: recomputes, pages and milliseconds, without running a model.

    .build/venv/bin/python benches/sweep.py FOLDER ... [--sizes] [--mode built --mode grown]
        [--setting NAME=VALUE] [--builds N] [--figures docs/figures] [--csv FILE]

In addition to what samples/README.md describes, FOLDER holds the embeddings themselves (embeddings.f16.npy
and query_embeddings.f16.npy, one row per passage or query). They become a column of type embedding, which is
indexed. A scan then does all that it does over text, but a recompute is a look at the row. So a sweep takes
minutes, the counts are those of a search by text with an empty cache, and the milliseconds are those of
everything but the model.

`recomputes` are the candidates, which would be recomputed. With --sizes, indexes with sketches of several
sizes are measured instead, each with default settings.
"""

import argparse
import contextlib
import csv
import os
import pathlib
import platform
import sys

import numpy

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "scripts"))

from chart import line_chart
from cluster import Cluster

SETTINGS = [f"leann.rerank_z={z}" for z in (0.4, 0.8, 1.1, 1.4, 1.6, 1.8, 2.1)]
DEFAULTS = "leann.rerank_z=DEFAULT"
# Rows that are there when the index is made, and its options.
MODES = {
    "built": ("true", ""),
    "grown": ("false", ""),
    "tenth": ("n % 10 = 0", ""),
    **{f"{size} byte sketches": ("true", f"WITH (sketch_bytes = {size})") for size in (32, 40, 48, 64, 80)},
    "stored": ("true", "WITH (store = float16)"),
    "stored, grown": ("false", "WITH (store = float16)"),
}
# leann.last_scan() is of the whole statement, so each search is what it added.
ASK = """DO $$ DECLARE q record; found int[]; scan record; before record; begun timestamptz; BEGIN
    SELECT 0::bigint AS candidates, 0::bigint AS pages, 0::bigint AS late, 0::float8 AS walk_ms INTO before;
    FOR q IN SELECT * FROM queries ORDER BY n LOOP
        begun := clock_timestamp();
        SELECT array_agg(near.n) INTO found FROM (SELECT d.n FROM docs d ORDER BY d.v <-> q.v LIMIT 10) near;
        SELECT * INTO scan FROM leann.last_scan();
        INSERT INTO results VALUES (q.n, found, scan.candidates - before.candidates,
                                    scan.pages - before.pages,
                                    scan.late - before.late,
                                    extract(epoch FROM clock_timestamp() - begun) * 1000,
                                    scan.walk_ms - before.walk_ms);
        before := scan;
    END LOOP; END $$"""


def machine():
    return f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}"


@contextlib.contextmanager
def server():
    """A session with a server of its own, which has the extension."""
    with (
        Cluster("shared_buffers=512MB", "maintenance_work_mem=1GB", "autovacuum=off") as cluster,
        cluster.session() as session,
    ):
        session.run("CREATE EXTENSION leann")
        yield session


def unit_rows(path, limit=None):
    rows = numpy.load(path)[:limit].astype(numpy.float32)
    return rows / numpy.linalg.norm(rows, axis=1, keepdims=True)


def load(session, table, rows):
    session.run(
        f"DROP TABLE IF EXISTS {table}; CREATE TABLE {table} (n int PRIMARY KEY, v leann.embedding);"
        "CREATE TABLE loaded (n int, v real[])"
    )
    session.copy_in(
        "loaded", ([str(n), "{" + ",".join(f"{x:.7g}" for x in row) + "}"] for n, row in enumerate(rows))
    )
    session.run(
        f"INSERT INTO {table} SELECT n, v::leann.embedding FROM loaded ORDER BY n; DROP TABLE loaded", 3600
    )


def make_index(session, first, options=""):
    """Makes docs of source: rows that pass `first`, the index, the others. Returns its pages and bytes."""
    session.run(
        "RESET ALL; DROP TABLE IF EXISTS docs; CREATE TABLE docs (n int PRIMARY KEY, v leann.embedding);"
        f"INSERT INTO docs SELECT * FROM source WHERE {first} ORDER BY n;"
        f"CREATE INDEX docs_v ON docs USING leann (v) {options};"
        f"INSERT INTO docs SELECT * FROM source WHERE NOT ({first}) ORDER BY n; ANALYZE docs",
        7200,
    )
    if session.run("SELECT * FROM leann.check('docs_v')", 600):
        raise SystemExit("leann.check finds faults")
    nodes, size = map(int, session.row("SELECT node_pages, bytes FROM leann.index_info('docs_v')"))
    return nodes, size


def measure(session, settings, similar):
    """Figures of all queries with some settings."""
    changed = "".join(f"SET {setting};" for setting in settings)
    session.run(
        f"RESET ALL; SET enable_seqscan = off; {changed}"
        "DROP TABLE IF EXISTS results;"
        "CREATE TABLE results (n int, found int[], candidates int, pages int, late int,"
        " ms float8, walk_ms float8)"
    )
    session.run(ASK, 7200)
    tenth = numpy.partition(similar, -10, axis=1)[:, -10]
    recall, figures = [], []
    for n, found, *numbers in session.rows("SELECT * FROM results ORDER BY n"):
        rows = [int(row) for row in found.strip("{}").split(",")]
        recall.append((similar[int(n), rows] >= tenth[int(n)] - 1e-6).sum() / 10)
        figures.append([float(number) for number in numbers])
    figures = numpy.array(figures)
    return {
        "recall@10": numpy.mean(recall),
        "recall p5": numpy.percentile(recall, 5),
        "recomputes": figures[:, 0].mean(),
        "p95": numpy.percentile(figures[:, 0], 95),
        "pages": figures[:, 1].mean(),
        "late": figures[:, 2].mean(),
        "ms": figures[:, 3].mean(),
        "ms p95": numpy.percentile(figures[:, 3], 95),
        "walk ms": figures[:, 4].mean(),
        "walk ms p95": numpy.percentile(figures[:, 4], 95),
    }


def sweep(folder, modes, settings, queries, builds):
    """Lines of the table for one data set, each the mean of so many builds."""
    rows, asked = (
        unit_rows(folder / "embeddings.f16.npy"),
        unit_rows(folder / "query_embeddings.f16.npy", queries),
    )
    similar = asked @ rows.T
    lines = []
    with server() as session:
        load(session, "source", rows)
        load(session, "queries", asked)
        for mode in modes:
            measured = {setting: [] for setting in settings}
            for _ in range(builds):
                node_pages, size = make_index(session, *MODES[mode])
                for setting, found in measured.items():
                    found.append(
                        {
                            **measure(session, [setting], similar),
                            "of pages": node_pages,
                            "bytes/row": size / len(rows),
                        }
                    )
            for setting, found in measured.items():
                recalls = [build["recall@10"] for build in found]
                line = {
                    "data": folder.name,
                    "index": mode,
                    "setting": setting,
                    **{name: float(numpy.mean([build[name] for build in found])) for name in found[0]},
                    "least recall": min(recalls),
                    "most recall": max(recalls),
                }
                lines.append(line)
                print(
                    " ".join(
                        f"{value:.4f}"
                        if "recall" in name
                        else f"{value:.2f}"
                        if isinstance(value, float)
                        else str(value)
                        for name, value in line.items()
                    ),
                    flush=True,
                )
    return lines


def write_csv(path, lines):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, lines[0])
        writer.writeheader()
        writer.writerows(
            {name: f"{value:.5g}" if isinstance(value, float) else value for name, value in line.items()}
            for line in lines
        )


def draw(lines, sizes, folder):
    """The lines of one run as an SVG."""
    folder.mkdir(parents=True, exist_ok=True)
    series = {}
    for line in sorted(lines, key=lambda line: line["bytes/row"]) if sizes else lines:
        if sizes:
            series.setdefault(line["data"], []).append((line["bytes/row"], line["recomputes"]))
        else:
            name = f"{line['data']}, {'untrained' if line['index'] == 'grown' else line['index']}"
            series.setdefault(name, []).append((line["recomputes"], line["recall@10"]))
    if sizes:
        chart = line_chart(
            "What size saves (sketch_bytes from 32 to 80)",
            "bytes per row, all in",
            "recomputes per query",
            series,
        )
        (folder / "recomputes-bytes.svg").write_text(chart)
    else:
        chart = line_chart(
            "What recall costs (leann.rerank_z from 0.5 to 2.3)", "recomputes per query", "recall@10", series
        )
        (folder / "recall-recomputes.svg").write_text(chart)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="+", type=pathlib.Path)
    parser.add_argument("--mode", action="append", choices=MODES)
    parser.add_argument("--setting", action="append", help="NAME=VALUE instead of the range of settings")
    parser.add_argument("--sizes", action="store_true")
    parser.add_argument("--builds", type=int, default=1, help="builds that a line is the mean of")
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument("--figures", type=pathlib.Path)
    parser.add_argument("--csv", type=pathlib.Path)
    args = parser.parse_args()
    modes, settings = args.mode or ["built", "grown"], args.setting or SETTINGS
    if args.sizes:
        modes, settings = ["built", *(mode for mode in MODES if "sketches" in mode)], [DEFAULTS]
    print(machine())
    lines = [
        line
        for folder in args.folders
        for line in sweep(folder.resolve(), modes, settings, args.queries, args.builds)
    ]
    if args.csv:
        write_csv(args.csv, lines)
    if args.figures:
        draw(lines, args.sizes, args.figures)


if __name__ == "__main__":
    main()
