#!/usr/bin/env python3
"""A private Postgres cluster: no TCP port, its own socket directory, thrown away without regret.

As a module:

    with Cluster("leann.model_dir=/x") as cluster:      # a temporary one, removed at the end
        with cluster.session() as session:              # pg.Session, which needs psycopg
            session.run("CREATE EXTENSION leann")

As a command, for the shell scripts and by hand; it needs nothing but Python:

    scripts/cluster.py start  DIR [name=value ...]   makes it if need be, starts it, prints its `export` lines
    scripts/cluster.py env    DIR                    the `export` lines; starts it if it is stopped
    scripts/cluster.py stop   DIR                    stops it
    scripts/cluster.py remove DIR                    stops it and deletes DIR
    scripts/cluster.py tail   DIR                    the end of the server's log
    scripts/cluster.py readable DIR PATH             PATH, or the copy of it that the server can read

DIR belongs to the user who runs this. DIR/cluster belongs to the server's user and holds data/, log and the
socket. When that user cannot enter DIR, as below /root, or when DIR's path is too long for a Unix socket (107
bytes), all of this is made in a directory under /tmp instead, and DIR/elsewhere names that.

Postgres refuses to run as root: where this runs as root, the server's user is `postgres`, who could put links
into DIR/cluster. So root writes nothing in there, and removes it only as a whole. What it has to keep it
keeps in DIR, which only root can write."""

import argparse
import contextlib
import functools
import os
import pathlib
import pwd
import re
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from typing import ClassVar

ROOT = pathlib.Path(__file__).resolve().parent.parent
PORT = "5432"  # only names the socket file
MAX_SOCKET_DIRECTORY = 80  # bytes of DIR that leave room for the socket's name
ELSEWHERE = re.compile(r"/tmp/leann-cluster\.[A-Za-z0-9_]{6,8}")

# What no server may ever write.
LOG_FAULT = re.compile(
    r"PANIC:|terminated by signal|TRAP:|leak|still referenced|you don't own|resource was not closed|"
    r"problem in alloc|detected write past"
)


class ClusterError(Exception):
    """A cluster cannot be made, started or removed; the message says why."""


def pg_config(option, config=None):
    """What pg_config says: the given one, or PG_CONFIG's, or the one that Debian installs."""
    return _said(config or os.environ.get("PG_CONFIG") or "/usr/lib/postgresql/15/bin/pg_config", option)


@functools.cache
def _said(config, option):
    if not os.access(config, os.X_OK):
        raise ClusterError(f"no pg_config at {config}: 'make deps' installs PostgreSQL 15, or set PG_CONFIG")
    return subprocess.run([config, option], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


def program(name):
    """The path of psql, pg_dump, ... of PG_CONFIG's Postgres."""
    return os.path.join(pg_config("--bindir"), name)


def major_version(config=None):
    return int(re.search(r"\d+", pg_config("--version", config)).group())


@functools.cache
def server_user():
    """The server's user where this runs as root, else None: then it is the user who runs this."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        raise ClusterError("there is no user 'postgres' to run the server as; 'make deps' makes it") from None


def as_server(*command, check=True, **options):
    """Runs a command as the server's user, in a directory that this user can enter, and without a Rust
    backtrace setting, which would add a long DETAIL to every error."""
    env = {
        name: value for name, value in os.environ.items() if name not in ("RUST_BACKTRACE", "LANG", "LC_ALL")
    }
    if user := server_user():
        env["HOME"] = os.environ.get("SERVER_HOME", "/tmp")
        groups = os.getgrouplist(user.pw_name, user.pw_gid)
        options |= {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": groups}
    arguments = [str(word) for word in command]
    return subprocess.run(arguments, cwd="/", env=env, check=check, **options)


def server_can(test, path):
    """Whether the server's user passes a test of test(1) on a path."""
    return as_server("test", test, path, check=False).returncode == 0


def is_private(path):
    """Whether a path is a directory of ours that only we can write."""
    try:
        found = os.lstat(path)
    except OSError:
        return False
    mine = found.st_uid == os.geteuid() and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return stat.S_ISDIR(found.st_mode) and mine


def children_of(parent):
    """The process ids of a process' children, from /proc (procps may be missing)."""
    children = []
    for path in pathlib.Path("/proc").glob("[0-9]*/status"):
        with contextlib.suppress(OSError):
            if re.search(rf"^PPid:\s+{parent}$", path.read_text(), flags=re.M):
                children.append(int(path.parent.name))
    return children


class Place:
    """Where a cluster lies: `directory` is what its owner named; all else hangs on that."""

    def __init__(self, directory):
        self.directory = pathlib.Path(directory).absolute()

    def home(self):
        """The directory that takes the place of `directory`, or that itself; None if there is none yet."""
        if not self.directory.exists() and not self.directory.is_symlink():
            return None
        if not is_private(self.directory):
            raise ClusterError(
                f"{self.directory} belongs to another user, or others can write it: it is no directory of a"
                " cluster of yours, name another one"
            )
        pointer = self.directory / "elsewhere"
        if not pointer.exists():
            return self.directory
        named = pointer.read_text().partition("\n")[0]
        if not ELSEWHERE.fullmatch(named):
            raise ClusterError(f"{pointer} does not name a directory of a cluster")
        if not os.path.isdir(named):  # cleared away with the rest of /tmp
            return None
        if not is_private(named):
            raise ClusterError(f"{named}, which {pointer} names, belongs to another user")
        return pathlib.Path(named)

    def base(self):
        """The directory that belongs to the server's user; None if there is none yet."""
        home = self.home()
        return home / "cluster" if home and (home / "cluster").is_dir() else None

    def make(self):
        """Makes the directories for a new cluster."""
        directory = self.directory
        directory.mkdir(parents=True, exist_ok=True)
        if not directory.is_symlink() and directory.stat().st_uid == os.geteuid():
            directory.chmod(directory.stat().st_mode & ~(stat.S_IWGRP | stat.S_IWOTH))
        home = self.home() or directory
        if len(os.fsencode(home)) > MAX_SOCKET_DIRECTORY or not server_can("-x", home.parent):
            home = pathlib.Path(tempfile.mkdtemp(prefix="leann-cluster.", dir="/tmp"))
            (directory / "elsewhere").unlink(missing_ok=True)
            (directory / "elsewhere").write_text(f"{home}\n")
            note(
                f"the server cannot use {directory} (not enterable, or too long for a socket): it is in"
                f" {home}"
            )
        home.chmod(home.stat().st_mode | 0o011)
        base = home / "cluster"
        base.mkdir(mode=0o700)
        if user := server_user():
            os.chown(base, user.pw_uid, user.pw_gid)

    def remove(self):
        """Deletes all of it. Links in it are removed and not followed."""
        home = self.home()
        for directory in {home, self.directory} - {None}:
            if directory.exists():
                shutil.rmtree(directory)


def note(text):
    print(f"   {text}", file=sys.stderr, flush=True)


class Cluster:
    """A private cluster, running. Without `directory` it is a temporary one, removed at the end; then fsync
    is off, which a killed process survives (the kernel still has the writes). With `standby_of` it follows
    that cluster; with `upgrade_of` it takes that one over by pg_upgrade, which stops it. `pg_config` is that
    of another Postgres than PG_CONFIG's."""

    log_faults: ClassVar[list[str]] = []  # of all temporary clusters that this process has removed

    def __init__(
        self, *settings, directory=None, standby_of=None, upgrade_of=None, pg_config=None, start=True
    ):
        self.temporary = directory is None
        self.pg_config = pg_config
        self.place = Place(directory or tempfile.mkdtemp(prefix="leann-test.", dir="/tmp"))
        self.settings = (["fsync=off"] if self.temporary else []) + list(settings)
        if standby_of:
            self._clone(standby_of)
        if upgrade_of:
            upgrade_of.stop()
            self._upgrade(upgrade_of)
        if start:
            self.start()

    # Where things are.

    @property
    def base(self):
        return self.place.base()

    @property
    def data(self):
        return self.base / "data"

    @property
    def log_file(self):
        return self.base / "log"

    @property
    def env(self):
        """The environment variables by which clients find the cluster."""
        database = os.environ.get("PGDATABASE", "postgres")
        return {"PGHOST": str(self.base), "PGPORT": PORT, "PGUSER": "postgres", "PGDATABASE": database}

    def program(self, name):
        return os.path.join(pg_config("--bindir", self.pg_config), name)

    # What can be done with it.

    def start(self, address_space=None):
        """Makes the cluster if there is none, and starts it anew, with exactly `settings`. With
        `address_space`, each process of the server may take so many bytes of it."""
        if self.base is None:
            self._init()
        self.stop()
        self._configure()
        self.resume(address_space)

    def resume(self, address_space=None):
        """Starts the stopped cluster with the settings of its last start."""
        command = [self.program("pg_ctl"), "-D", self.data, "-l", self.log_file, "-w", "-t", 120, "start"]
        if address_space:
            command = [
                "sh",
                "-c",
                'ulimit -S -v "$1" && shift && exec "$@"',
                "sh",
                address_space // 1024,
                *command,
            ]
        silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        if as_server(*command, check=False, **silent).returncode:
            raise ClusterError(
                f"the private cluster in {self.base} does not start; its log ends:\n{self.tail(20)}"
            )

    def is_running(self):
        return self.base is not None and self._pg_ctl("status", check=False) == 0

    def stop(self, mode="fast"):
        if self.is_running():
            self._pg_ctl("-m", mode, "-w", "-t", 60, "stop")

    def promote(self):
        """Makes a standby a primary."""
        self._pg_ctl("-w", "-t", 60, "promote")

    def kill(self):
        """The way a power cut looks to Postgres: every process gone at once, nothing flushed, the lock file
        left behind."""
        lock = self.data / "postmaster.pid"
        postmaster = int(as_server("head", "-n", 1, lock, stdout=subprocess.PIPE).stdout)
        as_server("kill", "-STOP", postmaster)  # so that it starts no child while they are counted
        pids = [postmaster, *children_of(postmaster)]
        as_server("kill", "-KILL", *pids, check=False, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 5
        while any(os.path.exists(f"/proc/{pid}") for pid in pids) and time.monotonic() < deadline:
            time.sleep(0.01)
        # In a container whose first process collects no dead children the postmaster stays a zombie, and
        # Postgres would take its lock file for a living server's.
        if os.path.exists(f"/proc/{postmaster}"):
            as_server("rm", "-f", lock)

    def remove(self):
        if self.base:
            if self.temporary:
                Cluster.log_faults.extend(self.faults_in_log())
            with contextlib.suppress(subprocess.CalledProcessError):
                self.stop("immediate")
        self.place.remove()

    def session(self, database=None, name="session", **parameters):
        """A connection; `parameters` are libpq's, as in user="visitor"."""
        from pg import Session  # the only part that needs psycopg

        return Session({**self.env, **({"PGDATABASE": database} if database else {})}, name, **parameters)

    def readable(self, path):
        """A copy of `path` that the server can read, or `path` itself where it can already."""
        if server_can("-r", path) and server_can("-x", path):
            return str(path)
        copy = self.place.home() / f"readable-{pathlib.Path(path).name}"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(path, copy)
        for each in [copy, *copy.rglob("*")]:
            each.chmod(each.stat().st_mode | (0o555 if each.is_dir() else 0o444))
        return str(copy)

    def log(self):
        """All that the server has written to its log; nothing if it was never started."""
        if self.base is None:
            return ""
        # Read as the server's user, who could have put a link in its place.
        silent = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        return as_server("cat", self.log_file, check=False, **silent).stdout.decode(errors="replace")

    def tail(self, lines=30):
        return "\n".join(self.log().splitlines()[-lines:])

    def faults_in_log(self):
        """What the log has of crashes, failed assertions, and pins, locks, snapshots or memory that were not
        let go."""
        return [line for line in self.log().splitlines() if LOG_FAULT.search(line)]

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind and self.temporary:
            print(f"--- end of the server's log:\n{self.tail()}", flush=True)
        if self.temporary:
            self.remove()

    # How.

    def _pg_ctl(self, *arguments, check=True):
        command = [self.program("pg_ctl"), "-D", self.data, *arguments]
        silent = {"stdout": subprocess.DEVNULL, "stderr": None if check else subprocess.DEVNULL}
        return as_server(*command, check=check, **silent).returncode

    def _init(self, *options):
        """A new cluster, not started, without settings of ours."""
        self.place.make()
        common = ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"]
        command = [self.program("initdb"), "-D", self.data, *common, "--no-instructions", *options]
        as_server(*command, stdout=subprocess.DEVNULL)
        as_server("sh", "-c", 'echo "include \'leann.conf\'" >>"$1"', "sh", self.data / "postgresql.conf")

    def _configure(self):
        """Exactly these settings, from the next start on."""
        places = [
            "listen_addresses=",
            f"port={PORT}",
            f"unix_socket_directories={self.base}",
            "unix_socket_permissions=0700",
        ]
        lines = []
        for setting in places + self.settings:
            name, _, value = setting.partition("=")
            lines.append(f"{name} = '{value.replace(chr(39), chr(39) * 2)}'\n")
        as_server("sh", "-c", 'cat >"$1"', "sh", self.data / "leann.conf", input="".join(lines), text=True)

    def _clone(self, primary):
        """A base backup of a running cluster, which follows it once started."""
        self.place.make()
        source = ["-h", primary.base, "-p", PORT, "-U", "postgres"]
        options = ["--write-recovery-conf", "--checkpoint=fast", "--no-sync"]
        as_server(self.program("pg_basebackup"), *source, "-D", self.data, *options)

    def _upgrade(self, old):
        """A new cluster that takes over the stopped cluster `old`, which belongs to another Postgres."""
        options = []
        # The checksums of both must agree; from 18 on they are on unless told otherwise.
        if major_version(self.pg_config) >= 18:
            look = [old.program("pg_controldata"), "-D", old.data]
            control = as_server(*look, stdout=subprocess.PIPE, text=True).stdout
            if re.search(r"^Data page checksum version: +0$", control, flags=re.M):
                options = ["--no-data-checksums"]
        self._init(*options)
        self._configure()
        folders = ["-b", pg_config("--bindir", old.pg_config), "-B", pg_config("--bindir", self.pg_config)]
        command = [self.program("pg_upgrade"), "-U", "postgres", *folders, "-d", old.data, "-D", self.data]
        # It writes into the folder that it is called in.
        enter = ["sh", "-c", 'cd "$1" && shift && exec "$@"', "sh", self.base]
        done = as_server(
            *enter, *command, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        if done.returncode:
            show = ["sh", "-c", 'cat "$1"/pg_upgrade_output.d/*/log/*.log', "sh", self.data]
            logs = as_server(*show, check=False, stdout=subprocess.PIPE, text=True).stdout
            where = f"from {old.program('')} to {self.program('')}"
            raise ClusterError(f"pg_upgrade {where} failed:\n{done.stdout}{logs}")


def print_exports(cluster):
    for name, value in cluster.env.items():
        print(f"export {name}={shlex.quote(value)}")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=["start", "env", "stop", "remove", "tail", "readable"])
    parser.add_argument("directory")
    parser.add_argument("arguments", nargs="*")
    args = parser.parse_args()
    settings = args.arguments if args.command == "start" else []
    cluster = Cluster(*settings, directory=args.directory, start=False)
    if cluster.base is None and args.command in ("env", "stop", "tail"):
        raise ClusterError(f"there is no cluster in {args.directory}")
    if args.command == "start":
        cluster.start()
        print_exports(cluster)
    elif args.command == "env":
        if not cluster.is_running():
            cluster.resume()
        print_exports(cluster)
    elif args.command == "stop":
        cluster.stop()
    elif args.command == "remove":
        cluster.remove()
    elif args.command == "tail":
        print(cluster.tail())
    else:
        print(cluster.readable(*args.arguments))


if __name__ == "__main__":
    try:
        main()
    except ClusterError as error:
        sys.exit(f"error: {error}")
    except subprocess.CalledProcessError as error:
        sys.exit(f"error: {shlex.join(map(str, error.cmd))} ended with status {error.returncode}")
