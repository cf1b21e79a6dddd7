"""The scripts, where others may have been before them: files and links that the server's user has planted in
a cluster's directories while root works on it, folders of models that lead elsewhere, an installation that
stops halfway. What needs root is skipped for others: as root alone there is a server's user to be wary of."""

import filecmp
import os
import pathlib
import shutil
import stat
import subprocess
import sys

import pytest

from cluster import ROOT, Cluster, as_server, pg_config, server_user
from support.checks import check
from support.models import TINY

MAKE_MODEL = ROOT / "tools" / "make_model.py"
MODEL = "all-MiniLM-L6-v2"
FOREIGN_MODELS = {
    "named ../outside/model.onnx": lambda model, scratch: name_file(model, "../outside/model.onnx"),
    "named /outside/model.onnx": lambda model, scratch: name_file(model, scratch / "outside" / "model.onnx"),
    "named onnx/../../outside/model.onnx": lambda model, scratch: name_file(
        model, "onnx/../../outside/model.onnx"
    ),
    "linked model.onnx /outside/model.onnx": lambda model, scratch: link(
        model / "model.onnx", scratch / "outside" / "model.onnx"
    ),
    "linked onnx /outside": lambda model, scratch: link(model / "onnx", scratch / "outside"),
    "linked config.json /victim/file": lambda model, scratch: link(
        model / "config.json", scratch / "victim" / "file"
    ),
}
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has a server's user to be wary of")


class Victim:
    """A folder of somebody's, which must come out of all this as it was."""

    def __init__(self, folder):
        self.folder, self.file = folder, folder / "file"
        folder.mkdir()
        self.file.write_text("precious\n")
        self.file.chmod(0o600)

    def is_whole(self):
        mode = stat.S_IMODE(self.file.stat().st_mode)
        return self.file.read_text() == "precious\n" and os.listdir(self.folder) == ["file"] and mode == 0o600


@pytest.fixture
def victim(open_folder):
    return Victim(open_folder / "victim")


def name_file(model, path):
    (model / "leann.json").write_text(f'{{"model_file": "{path}"}}')


def link(path, target):
    if path.exists():
        path.unlink()
    path.symlink_to(target)


def server_may(*command):
    """Whether a command of the server's user succeeds."""
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return as_server(*command, check=False, **silent).returncode == 0


def refused(command, directory):
    """Whether the command line of cluster.py refuses to work on a directory."""
    arguments = [ROOT / "scripts" / "cluster.py", command, directory]
    return subprocess.run(arguments, capture_output=True, check=False).returncode != 0


def has_ended(pid):
    """Also when its parent has not collected it yet."""
    try:
        status = pathlib.Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True
    return "State:\tZ" in status or "State:\tX" in status


@needs_root
def test_planted_in_a_cluster(open_folder, victim):
    directory = open_folder / "planted"
    cluster = Cluster("fsync=off", directory=directory)
    base = cluster.base
    postmaster = int((cluster.data / "postmaster.pid").read_text().partition("\n")[0])
    check(
        "the server's user cannot write beside its own folder",
        not server_may("sh", "-c", f"echo '{victim.folder}' >'{directory}/elsewhere'"),
    )
    check("nor put another folder into its place", not server_may("mv", base, directory / "other"))
    # What it can do: links in its own folder, by names that root might write to.
    as_server("ln", "-s", victim.folder, base / "readable-private")
    as_server("ln", "-s", victim.folder, base / "private")
    as_server("ln", "-s", victim.file, base / "upgrade.log")
    as_server("ln", "-sf", victim.file, base / "log")
    private = open_folder / "private"
    private.mkdir()
    (private / "file").write_text("theirs")
    private.chmod(0o700)
    copy = cluster.readable(private)
    check("what the server shall read is copied", server_may("grep", "-q", "theirs", f"{copy}/file"))
    check("and not through its own links", victim.is_whole())
    cluster.remove()
    check("a cluster is removed without following links", victim.is_whole())
    check("and its directory is gone", not directory.exists())
    check("with its server", has_ended(postmaster))


@needs_root
def test_foreign_directories(open_folder, victim):
    directory = open_folder / "foreign"
    directory.mkdir()
    (directory / "elsewhere").write_text(f"{victim.folder}\n")
    check("a directory that names another than a cluster's is refused", refused("remove", directory))
    check("and nothing is removed", victim.is_whole())
    forged = pathlib.Path("/tmp/leann-cluster.forged")
    forged.mkdir(exist_ok=True)
    os.chown(forged, server_user().pw_uid, server_user().pw_gid)
    (directory / "elsewhere").write_text(f"{forged}\n")
    check("also one that another user has made", refused("remove", directory))
    check("which stays", forged.is_dir())
    forged.rmdir()
    theirs = pathlib.Path(f"/tmp/leann-theirs.{os.getpid()}")
    as_server("mkdir", "-m", "777", theirs)
    check("a directory of another user's is no place for a cluster", refused("start", theirs))
    as_server("rmdir", theirs)


def converted(folder, *arguments):
    command = [sys.executable, MAKE_MODEL, "--from-folder", folder, *arguments]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("how", FOREIGN_MODELS)
def test_foreign_models(how, open_folder, victim):
    outside, model, copy = (open_folder / name for name in ("outside", "model", "copy"))
    outside.mkdir()
    shutil.copy(TINY / "model.onnx", outside)
    for options, what in (((), "a model with"), (("--into", copy), "a copy of one with")):
        shutil.rmtree(model, ignore_errors=True)
        shutil.copytree(TINY, model)
        FOREIGN_MODELS[how](model, open_folder)
        check(f"refused: {what} {how}", not converted(model, *options))
    check("with nothing written outside", os.listdir(outside) == ["model.onnx"])
    found = [path for path in copy.rglob("*") if path.is_file() and b"precious" in path.read_bytes()]
    check("and nothing of others in the copy", not found and victim.is_whole(), str(found))


def test_cached_revision(open_folder):
    """The cache of Hugging Face: a revision's files are links to blobs beside it."""
    blobs, revision, copy = (open_folder / name for name in ("blobs", "snapshots/5678", "copy"))
    blobs.mkdir()
    shutil.copytree(TINY, revision)
    (revision / "model.onnx").rename(blobs / "1234")
    (revision / "model.onnx").symlink_to("../../blobs/1234")
    converted(revision, "--into", copy)
    check(
        "a revision in a cache is copied with what its links lead to",
        filecmp.cmp(blobs / "1234", copy / "model.onnx", shallow=False),
    )
    check("as files of its own", not (copy / "model.onnx").is_symlink())


@needs_root
def test_installation_order(open_folder):
    """The order in which an installation touches a model's files, told by programs of the same names before
    the real ones."""
    models = pathlib.Path(pg_config("--sharedir"), "leann", "models", MODEL, "onnx")
    log, programs = open_folder / "order", open_folder / "bin"
    programs.mkdir()
    for name in ("cp", "rm"):
        script = f'#!/bin/sh\nfor last; do :; done\necho "{name} $last" >>"{log}"\nexec /bin/{name} "$@"\n'
        (programs / name).write_text(script)
        (programs / name).chmod(0o755)
    with (models / "model.mapped.onnx").open("a") as file:
        file.write("spoilt\n")
    env = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}
    command = [ROOT / "scripts" / "install.sh", "--no-build"]
    subprocess.run(command, env=env, capture_output=True, check=True)
    order = [line.replace(f"{models}/", "") for line in log.read_text().splitlines() if "mapped" in line]
    check(
        "an installation takes a model's receipt away first and puts it back last",
        order == ["rm model.mapped.json", "cp model.mapped.onnx.new", "cp model.mapped.json.new"],
        str(order),
    )
    whole = ROOT / ".build" / "models" / MODEL / "onnx" / "model.mapped.json"
    check("and leaves the model whole", filecmp.cmp(whole, models / "model.mapped.json", shallow=False))
