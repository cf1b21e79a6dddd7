"""What a build takes and what it leaves: its memory stays within maintenance_work_mem, the model and a
constant, and a disk that fills up ends it with an error and nothing left behind. LEANN_SOAK=1: on more
rows."""

import os
import subprocess
import threading
import time

import pytest

from support.checks import SOAK, check, check_refused, note
from support.index import faults, same_rows
from support.processes import anonymous
from support.texts import SQL_SENTENCE

MEGABYTE = 1 << 20
ROWS = 200_000 if SOAK else 30_000
DIMENSIONS = 384
VECTORS = ROWS * DIMENSIONS * 2  # as f16
# What a build may hold beyond maintenance_work_mem and the model: twice the sample of 20,000 rows that the
# sketch is trained on (60 MB) or, after that, the layout of 1024 pages at a time; a batch of values; and for
# each row its pointer, page and finished sketch.
CONSTANT, PER_ROW = 75 * MEGABYTE, 200
# Where embeddings are stored a page holds ten rows, and its hub takes as much as a row.
PER_STORED_ROW = 600


class Peak(threading.Thread):
    """The most memory that a process had while this watched."""

    def __init__(self, pid):
        super().__init__()
        self.pid, self.peak, self.ended = pid, 0, False

    def run(self):
        while not self.ended:
            self.peak = max(self.peak, anonymous(self.pid))
            time.sleep(0.01)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.ended = True
        self.join()


def build_peak(cluster, work_mem, options=""):
    """Peak memory of a build beyond that of a session that has loaded the model."""
    with cluster.session() as session:
        session.run("SELECT leann.embed('the model is loaded')")
        session.run(f"SET maintenance_work_mem = '{work_mem}MB'")
        before = anonymous(session.pid)
        with Peak(session.pid) as watched:
            session.run(f"CREATE INDEX docs_embedding ON docs USING leann (embedding) {options}", 1800)
        check(f"{work_mem} MB {options}: leann.check is clean", not faults(session))
        session.run("DROP INDEX docs_embedding")
        return watched.peak - before


@pytest.mark.cluster("leann.threads=2", "autovacuum=off", "max_wal_size=4GB", model="real")
def test_memory(cluster):
    with cluster.session() as session:
        # Vectors of two pieces of one long list of random numbers. What they mean does not matter, how many
        # they are does.
        half = DIMENSIONS // 2
        session.run(
            "SELECT setseed(0.5); CREATE TABLE docs (id int, embedding leann.embedding);"
            "CREATE TABLE noise AS SELECT array_agg((random() - 0.5)::real) AS v FROM generate_series(1,"
            " 5000);"
            f"INSERT INTO docs SELECT n, v[1 + n % 300 : {half} + n % 300] || v[1001 + n % 3701 :"
            f" {1000 + half} + n % 3701]"
            f" FROM noise, generate_series(1, {ROWS}) n",
            1800,
        )
    limit = CONSTANT + PER_ROW * ROWS
    peaks = {}
    for work_mem in (4, 256):
        peak = peaks[work_mem] = build_peak(cluster, work_mem)
        note(
            f"{ROWS} rows, vectors of {VECTORS / 1e6:.0f} MB, maintenance_work_mem {work_mem} MB:"
            f" peak {peak / 1e6:.0f} MB beyond the loaded model",
        )
        check(
            f"{work_mem} MB of maintenance_work_mem: the build keeps to it",
            peak <= min(work_mem * MEGABYTE, VECTORS) + limit,
            f"peak {peak}, allowed {min(work_mem * MEGABYTE, VECTORS) + limit}",
        )
    stored = build_peak(cluster, 4, "WITH (store = float16)")
    note(f"with embeddings stored: peak {stored / 1e6:.0f} MB")
    check(
        "embeddings to be stored are not held in memory either",
        stored <= 4 * MEGABYTE + CONSTANT + PER_STORED_ROW * ROWS,
        str(stored),
    )
    check(
        "beyond maintenance_work_mem vectors are not held in memory",
        peaks[256] - peaks[4] > VECTORS / 2,
        str(peaks),
    )


def files(folder):
    return sorted(os.path.join(path, name) for path, _, names in os.walk(folder) for name in names)


def used(folder):
    status = os.statvfs(folder)
    return (status.f_blocks - status.f_bfree) * status.f_frsize


@pytest.fixture
def small_disk():
    """The path of a file system of 1536 kB, where this machine lets us mount one."""
    path = f"/tmp/leann-disk.{os.getpid()}"
    os.mkdir(path)
    owner = "uid=postgres,gid=postgres," if os.geteuid() == 0 else ""
    command = ["mount", "-t", "tmpfs", "-o", f"{owner}mode=700,size=1536k", "tmpfs", path]
    mounted = subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode == 0
    if mounted:
        yield path
        subprocess.run(["umount", "-l", path], check=True)
    os.rmdir(path)
    if not mounted:
        pytest.skip("no file system can be mounted here: a full disk is not tested, temp_file_limit is")


@pytest.mark.cluster("autovacuum=off", "maintenance_work_mem=1MB", "max_wal_size=4GB")
def test_disk_full(small_disk, session):
    session.run(SQL_SENTENCE)
    session.run(
        "CREATE TABLE docs (id int PRIMARY KEY, body text);"
        "INSERT INTO docs SELECT n, sentence(n) FROM generate_series(1, 20000) n",
        600,
    )
    session.run(f"CREATE TABLESPACE small LOCATION '{small_disk}'")
    session.run("CHECKPOINT")
    empty = used(small_disk)
    for where, settings, clause in (
        ("of temporary files", "SET temp_tablespaces = small", ""),
        ("of the index", "RESET temp_tablespaces", "TABLESPACE small"),
    ):
        session.run(settings)
        index = (
            f"INDEX {{}} docs_embedding ON docs USING leann (embedding_of(body))"
            f" WITH (sketch_bytes = 96) {clause}"
        )
        for how in ("", "CONCURRENTLY")[: 2 if SOAK else 1]:
            build = "CREATE " + index.format(how)
            check_refused(f"a full disk {where} ends a build {how}", session, build, "53100")
            session.run("DROP INDEX IF EXISTS docs_embedding; CHECKPOINT")
            check(
                f"nothing is left on the disk {where} {how}",
                used(small_disk) == empty,
                f"{used(small_disk)} bytes, {empty} at first: {files(small_disk)[:5]}",
            )
    session.run("RESET temp_tablespaces")
    session.run("CREATE INDEX docs_embedding ON docs USING leann (embedding_of(body))", 900)
    check("then a build works", not faults(session))
    same_rows("and holds exactly the table's rows", session)
    session.run("DROP TABLESPACE small")
