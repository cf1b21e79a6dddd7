"""Model files as they come: incomplete, unreadable, mixed up, preallocated, overwritten while they are in
use. None of it takes the server down, hangs it, or serves other vectors under a good name; `leann.models`
says what is wrong."""

import json
import pathlib
import shutil
import time

import pytest

from cluster import Cluster, pg_config
from support.checks import check, error_of, note
from support.models import TINY, TINY_B, put_model, varint


def test_incomplete_and_unusable_folders(session, open_folder):
    models = open_folder
    put_model(models, "good")
    (put_model(models, "a-tokenizer") / "tokenizer.json").write_text("{}")
    modules = json.loads((TINY / "modules.json").read_text())
    modules.insert(
        2, {"idx": 9, "name": "9", "path": "9_Dense", "type": "sentence_transformers.models.Dense"}
    )
    (put_model(models, "b-step") / "modules.json").write_text(json.dumps(modules))
    (put_model(models, "c-no-tokenizer") / "tokenizer.json").unlink()
    # An input that this extension does not know, by another name for one that it does.
    graph = (TINY / "model.onnx").read_bytes()
    (put_model(models, "d-input") / "model.onnx").write_bytes(
        graph.replace(b"attention_mask", b"position_idsxx")
    )
    no_pooling = put_model(models, "e-pooling", TINY_B)
    shutil.rmtree(no_pooling / "1_Pooling")
    (no_pooling / "modules.json").unlink()
    (put_model(models, "f-settings") / "config.json").write_text("{")
    blobs = models / ".blobs"
    blobs.mkdir()
    cached = put_model(models, "g-links")
    (cached / "model.onnx").rename(blobs / "1234")
    (cached / "model.onnx").symlink_to(blobs / "1234")
    unreadable = put_model(models, "h-unreadable") / "1_Pooling"
    unreadable.chmod(0)
    put_model(models, "i" * 200)
    expected = {
        "good": "",
        "a-tokenizer": "tokenizer.json",
        "b-step": "Dense",
        "c-no-tokenizer": "no tokenizer.json",
        "d-input": "position_idsxx",
        "e-pooling": "leann.json",
        "f-settings": "config.json",
        "g-links": "--local-dir",
        "h-unreadable": "ermission denied",
        "i" * 200: "longer than 127 bytes",
    }
    session.run(f"SET leann.model_dir = '{models}'")
    seen = {
        name: (ready, error or "")
        for name, ready, error in session.rows("SELECT name, ready, error FROM leann.models")
    }
    check(
        "every folder that looks like a model is listed",
        set(seen) == set(expected),
        str(sorted(seen)),
    )
    for name, word in expected.items():
        ready, error = seen.get(name, ("?", ""))
        check(
            f"{name[:20]} is {'ready' if not word else 'not ready, with the reason'}",
            ready == ("f" if word else "t") and word in error,
            f"{ready} {error}",
        )
        if word:
            check(
                f"{name[:20]} cannot be used either",
                error_of(session, f"SELECT leann.embed('a', '{name}')"),
            )
    check(
        "dimensions are those of a run",
        session.value("SELECT dimensions FROM leann.models WHERE name = 'good'") == "64",
    )
    (no_pooling / "leann.json").write_text('{"pooling": "cls"}')
    put_model(models, "tiny-hash-b", TINY_B)
    check(
        "leann.json mends the pooling, and the vectors are the model's own",
        session.value("SELECT leann.embed('a cat', 'e-pooling') = leann.embed('a cat', 'tiny-hash-b')")
        == "t",
    )
    unreadable.chmod(0o755)


def test_a_file_of_zeros(session, open_folder):
    models = open_folder
    session.run(f"SET leann.model_dir = '{models}'; SET statement_timeout = '1s'")
    for size in (1 << 20, 2 << 30, 60 << 30):
        with open(put_model(models, f"zeros{size}") / "model.onnx", "wb") as file:
            file.truncate(size)
    begin = time.monotonic()
    ready = session.value("SELECT count(*) FROM leann.models WHERE ready")
    check(
        "files of zeros are refused at once",
        ready == "0" and time.monotonic() - begin < 1,
        f"{time.monotonic() - begin:.1f} s",
    )
    # Hashing what really has to be hashed asks for cancellation.
    slow = put_model(models, "weights")
    graph = (TINY / "model.onnx").read_bytes()
    # An unknown field, a name of nearly 2 GB, which is skipped when the file is looked through.
    tail = (2 << 30) - 100 - len(graph)
    with open(slow / "model.onnx", "wb") as file:
        file.write(graph + bytes([0x92, 0x03]) + varint(tail - 7))
        file.truncate(len(graph) + tail)
    shutil.rmtree(models / f"zeros{1 << 20}")
    session.run("SET statement_timeout = '200ms'")
    for what in ("leann.embed('a', 'weights')", "count(*) FROM leann.models"):
        begin = time.monotonic()
        error = error_of(session, f"SELECT {what}")
        took = time.monotonic() - begin
        check(
            f"hashing large weights is cancelled in time: {what}",
            error is not None and error.sqlstate == "57014" and took < 1,
            f"{error} after {took:.1f} s",
        )


REAL = "all-MiniLM-L6-v2"


@pytest.mark.cluster("leann.threads=2", model="real")
def test_overwritten_in_use(cluster, open_folder):
    models = open_folder
    installed = pathlib.Path(pg_config("--sharedir"), "leann", "models", REAL)
    onnx = put_model(models, REAL, installed) / "onnx"
    good = (onnx / "model.mapped.bin").read_bytes()
    half, block = len(good) // 2 & ~4095, 4096
    other = (
        good[:half]
        + good[half + block : half + 2 * block]
        + good[half : half + block]
        + good[half + 2 * block :]
    )
    with cluster.session() as session, cluster.session() as second:
        session.run("CREATE TABLE docs (id int, body text)")
        session.run(
            "INSERT INTO docs SELECT n, 'passage ' || n || repeat(' about subject ' || n % 97, 20)"
            " FROM generate_series(1, 400) n"
        )
        for each in (session, second):
            each.run(f"SET leann.model_dir = '{models}'")
        before = session.value("SELECT leann.embed('subject 7')")
        pid = session.pid
        check(
            "what is mapped is the server's own copy",
            str(onnx) not in maps(pid) and "pgsql_tmp_leann" in maps(pid),
        )
        session.send("CREATE INDEX ON docs USING leann (embedding_of(body))")
        check("a build is under way", not session.answered(1))
        # As cp does it: the same file, emptied and written again.
        for content in (b"", other, good[: len(good) // 3], good):
            (onnx / "model.mapped.bin").write_bytes(content)
            time.sleep(0.3)
        session.finish(600)
        check("files overwritten under a build do not end it", True)
        check(
            "the server has not restarted",
            session.pid == pid and session.value("SELECT leann.embed('subject 7')") == before,
        )
        (onnx / "model.mapped.bin").write_bytes(other)
        error = error_of(second, "SELECT leann.embed('subject 7')")
        check(
            "other weights of the same size are refused by name",
            error is not None and "model.mapped.bin" in str(error) and error.sqlstate == "F0000",
            str(error),
        )
        check("and leann.models says so", "vouches" in second.value("SELECT error FROM leann.models"))
        error = error_of(session, "SELECT leann.embed('subject 8')")
        check(
            "also in a session that had loaded the model",
            error is not None and "model.mapped.bin" in str(error),
            str(error),
        )
        (onnx / "model.mapped.bin").write_bytes(good)
        check(
            "the right file makes it whole again",
            second.value("SELECT leann.embed('subject 7')") == before,
        )


def maps(pid):
    return pathlib.Path(f"/proc/{pid}/maps").read_text(encoding="utf-8")


@pytest.mark.cluster(model="real")
def test_copies_come_and_go(cluster):
    store = cluster.data / "base" / "pgsql_tmp" / "pgsql_tmp_leann"

    def folders():
        return sorted(path.name for path in store.glob("copy-*") if path.is_dir())

    with cluster.session() as session:
        session.run("SELECT leann.embed('a')")
        check("one copy for one model", len(folders()) == 1)
        check(
            "for the server's user alone",
            oct(store.stat().st_mode)[-3:] == "700"
            and all(oct(path.stat().st_mode)[-2:] == "00" for path in store.rglob("*")),
        )
        session.run("SELECT leann.embed('a')")
        check(
            "the listing leaves no copy of what nobody uses",
            session.value("SELECT count(*) FROM leann.models WHERE ready") == "2" and len(folders()) == 1,
            str(folders()),
        )
    times = []
    for _ in range(3):
        with cluster.session() as session:
            session.run("SET max_parallel_workers = 0")
            begin = time.monotonic()
            session.run("SELECT leann.embed('a')")
            times.append(time.monotonic() - begin)
    note(f"first use in a session: {min(times) * 1000:.0f} ms")
    with Cluster("hot_standby=on", standby_of=cluster) as standby:
        there = standby.data / "base" / "pgsql_tmp"
        check("a base backup leaves the copies out", not there.exists() or not list(there.iterdir()))
        with standby.session() as session:
            check(
                "a standby has its own",
                len(session.value("SELECT leann.embed('a')")) > 100 and list(there.iterdir()),
            )
    cluster.stop()
    cluster.start()
    check("the server removes them when it starts", not store.exists())
    with cluster.session() as session:
        session.run("SELECT leann.embed('a')")
        check("and makes them again", len(folders()) == 1)
    cluster.kill()
    cluster.start()
    check("also after a crash", not store.exists())
    # No room, as far as anyone can tell.
    store.parent.mkdir(exist_ok=True)
    store.write_text("")
    with cluster.session() as session:
        error = error_of(session, "SELECT leann.embed('a')")
        check(
            "a copy that cannot be made is an error that names the place",
            error is not None
            and error.sqlstate == "58030"
            and "HINT" in str(error)
            and "pgsql_tmp_leann" in str(error),
            str(error),
        )
        session.run("CREATE ROLE reader; GRANT SELECT ON leann.models TO reader; SET ROLE reader")
        error = error_of(session, "SELECT leann.embed('a')")
        check("to superusers", error is not None and "pgsql_tmp" not in str(error), str(error))
        store.unlink()
        check("and nothing more is needed than room", len(session.value("SELECT leann.embed('a')")) > 100)
