#!/usr/bin/env python3
"""Measures what the statement around a search costs: filters and limits.

    .build/venv/bin/python benches/statement.py FOLDER ... [--queries N] [--csv FILE]

It works as benches/sweep.py does, without running a model, with default settings and a built index. Recall is
against exact search among the rows that pass. `recomputes` are the rows whose distances were made exact,
`checked` those that the filter was evaluated on. Correlated filters keep one of fifty clusters of meaning:
the one nearest to the query, and the one in the middle of their order. Thresholds on the distance have no
LIMIT to speak of, so all rows within them are wanted.
"""

import argparse
import pathlib

import numpy

from sweep import load, machine, server, unit_rows, write_csv

ASK = """DO $$ DECLARE q record; found int[]; scan record; before record; begun timestamptz; BEGIN
    SELECT 0::bigint AS candidates, 0::bigint AS checked, 0::bigint AS pages INTO before;
    FOR q IN SELECT * FROM queries ORDER BY n LOOP
        begun := clock_timestamp();
        SELECT array_agg(near.n) INTO found
            FROM (SELECT d.n FROM docs d WHERE {where} ORDER BY d.v <-> q.v LIMIT {limit}) near;
        SELECT * INTO scan FROM leann.last_scan();
        INSERT INTO results VALUES (q.n, coalesce(found, '{{}}'), scan.candidates - before.candidates,
                                    scan.checked - before.checked, scan.pages - before.pages,
                                    extract(epoch FROM clock_timestamp() - begun) * 1000);
        before := scan;
    END LOOP; END $$"""
CLUSTERS = 50
PARTITIONS = (8, 50)
STATEMENTS = [
    ("no filter", "true", 10),
    *((f"a random row in {share}", f"d.n % {share} = 1", 10) for share in (2, 10, 50, 500)),
    ("the cluster nearest to the query", "d.cluster = q.near", 10),
    ("a cluster far from the query", "d.cluster = q.far", 10),
    *((f"LIMIT {limit}", "true", limit) for limit in (1, 3, 5, 50, 100)),
    # The distance of the nearest row, less a tenth; that of the tenth row.
    ("a threshold that no row meets", "d.v <-> q.v < q.nothing", 1000),
    ("a threshold that ten rows meet", "d.v <-> q.v <= q.ten", 1000),
]


def clusters(rows, asked):
    """The cluster of each row, and for each query the nearest one and the one in the middle."""
    rng = numpy.random.default_rng(5)
    centers = rows[rng.choice(len(rows), CLUSTERS, replace=False)]
    for _ in range(10):
        member = (rows @ centers.T).argmax(axis=1)
        for number in range(CLUSTERS):
            if (member == number).any():
                mean = rows[member == number].mean(axis=0)
                centers[number] = mean / numpy.linalg.norm(mean)
    order = (asked @ centers.T).argsort(axis=1)[:, ::-1]
    return member, order[:, 0], order[:, CLUSTERS // 2]


def thresholds(similar):
    """For each query a distance that no row is within, and one that ten rows are within."""
    best = -numpy.sort(-similar, axis=1)[:, [0, 9]]
    distances = numpy.sqrt(numpy.maximum(2 - 2 * best, 0))
    return distances[:, 0] * 0.9, distances[:, 1] + 1e-6


def passing(statement, similar, member, near, far, query):
    """Which of the rows pass a statement's filter for a query."""
    where, count = statement[1], similar.shape[1]
    if where == "true":
        return numpy.ones(count, bool)
    if "q.nothing" in where:
        return numpy.zeros(count, bool)
    if "q.ten" in where:
        return similar[query] >= numpy.partition(similar[query], -10)[-10]
    if where.startswith("d.n"):
        return numpy.arange(count) % int(where.split()[2]) == 1
    return member == (near if "near" in where else far)[query]


def measure(session, statement, similar, member, near, far):
    _, where, limit = statement
    session.run(
        "RESET ALL; SET enable_seqscan = off; SET enable_bitmapscan = off; DROP TABLE IF EXISTS results;"
        "CREATE TABLE results (n int, found int[], candidates int, checked int, pages int, ms float8)"
    )
    session.run(ASK.format(where=where, limit=limit), 7200)
    recall, figures = [], []
    for n, found, *numbers in session.rows("SELECT * FROM results ORDER BY n"):
        rows = [int(row) for row in found.strip("{}").split(",") if row]
        allowed = passing(statement, similar, member, near, far, int(n))
        wanted = min(limit, allowed.sum())
        figures.append([float(number) for number in numbers])
        if wanted == 0:
            recall.append(float(not rows))
            continue
        last = numpy.partition(similar[int(n), allowed], -wanted)[-wanted]
        recall.append((similar[int(n), rows] >= last - 1e-6).sum() / wanted)
    figures = numpy.array(figures).mean(axis=0)
    names = ("recomputes", "checked", "pages", "ms")
    return {"recall": float(numpy.mean(recall)), **{k: float(v) for k, v in zip(names, figures, strict=True)}}


def label(session, member, near, far, nothing, ten):
    """Makes the tables of rows and queries with their clusters, and the index."""
    session.run(
        "ALTER TABLE queries ADD near int, ADD far int, ADD nothing float8, ADD ten float8;"
        "CREATE TABLE of_queries (n int, near int, far int, nothing float8, ten float8);"
        "CREATE TABLE of_rows (n int, cluster int)"
    )
    labels = zip(near, far, nothing, ten, strict=True)
    session.copy_in("of_queries", ([str(n), *map(str, label)] for n, label in enumerate(labels)))
    session.copy_in("of_rows", ([str(n), str(cluster)] for n, cluster in enumerate(member)))
    session.run(
        "UPDATE queries q SET near = l.near, far = l.far, nothing = l.nothing, ten = l.ten FROM of_queries l"
        " WHERE l.n = q.n;"
        "DROP TABLE IF EXISTS docs; CREATE TABLE docs AS"
        " SELECT n, cluster, v FROM source JOIN of_rows USING (n) ORDER BY n;"
        "DROP TABLE of_queries, of_rows; CREATE INDEX docs_v ON docs USING leann (v); ANALYZE docs",
        7200,
    )


def divide(session, count):
    """Replaces the table by one of so many partitions."""
    session.run(
        "DROP TABLE docs; CREATE TABLE docs (n int, v leann.embedding) PARTITION BY LIST ((n % "
        f"{count}));"
        + "".join(f"CREATE TABLE docs_{n} PARTITION OF docs FOR VALUES IN ({n});" for n in range(count))
        + "INSERT INTO docs SELECT n, v FROM source; CREATE INDEX ON docs USING leann (v); ANALYZE docs",
        7200,
    )


def show(line):
    print(
        f"{line['data']:10} {line['statement']:34} {line['recall']:.4f} {line['recomputes']:8.1f}"
        f" {line['checked']:8.1f} {line['pages']:6.1f} {line['ms']:8.2f}",
        flush=True,
    )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="+", type=pathlib.Path)
    parser.add_argument("--queries", type=int, default=300, metavar="N")
    parser.add_argument("--csv", type=pathlib.Path, metavar="FILE")
    args = parser.parse_args()
    print(machine())
    lines = []
    for folder in args.folders:
        rows = unit_rows(folder / "embeddings.f16.npy")
        asked = unit_rows(folder / "query_embeddings.f16.npy", args.queries)
        similar = asked @ rows.T
        member, near, far = clusters(rows, asked)
        with server() as session:
            load(session, "source", rows)
            load(session, "queries", asked)
            label(session, member, near, far, *thresholds(similar))
            for statement in STATEMENTS:
                figures = measure(session, statement, similar, member, near, far)
                lines.append({"data": folder.name, "statement": statement[0], **figures})
                show(lines[-1])
            for count in PARTITIONS:
                divide(session, count)
                figures = measure(session, STATEMENTS[0], similar, member, near, far)
                lines.append({"data": folder.name, "statement": f"{count} partitions", **figures})
                show(lines[-1])
    if args.csv and lines:
        write_csv(args.csv, lines)


if __name__ == "__main__":
    main()
