"""psql sessions and private clusters for the Python scripts: the standard library and psql, nothing to install.

    with Cluster("leann.model_dir=/x") as cluster:          # scripts/cluster.sh, removed at the end
        session = cluster.session()
        for id, title in session.rows("SELECT id, title FROM docs"): ...
"""

import os
import pathlib
import queue
import re
import subprocess
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
CLUSTER_SH = str(ROOT / "scripts" / "cluster.sh")


class SqlError(Exception):
    """An ERROR from the server, with its SQLSTATE; `message` is all that psql printed."""

    def __init__(self, message):
        super().__init__(message.strip())
        self.message = message
        found = re.search(r"(?:ERROR|FATAL|PANIC):\s+([0-9A-Z]{5}):", message)
        self.sqlstate = found.group(1) if found else None


class Lost(SqlError):
    """The session's connection is gone."""


def quote(value):
    """A text literal."""
    if value is None:
        return "NULL"
    value = str(value)
    return "E'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'" if "\\" in value else "'" + value.replace("'", "''") + "'"


def unescape(field):
    """A field of COPY text format."""
    if field == r"\N":
        return None
    if "\\" not in field:
        return field
    plain = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
    return re.sub(r"\\(.)", lambda found: plain.get(found.group(1), found.group(1)), field, flags=re.S)


def escape(value):
    """A value as a field of COPY text format."""
    if value is None:
        return r"\N"
    plain = {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"}
    return re.sub(r"[\\\t\n\r]", lambda found: plain[found.group()], str(value))


def program(name):
    """The path of psql, pg_dump, ... of PG_CONFIG where that is set, else the one in PATH."""
    if "PG_CONFIG" in os.environ:
        bindir = subprocess.run([os.environ["PG_CONFIG"], "--bindir"], capture_output=True, text=True, check=True)
        return os.path.join(bindir.stdout.strip(), name)
    return name


class Session:
    """One connection, held by a psql that is fed through a pipe."""

    def __init__(self, env=None, name="session"):
        self.env = {**os.environ, **(env or {}), "PGAPPNAME": name, "PGCLIENTENCODING": "UTF8"}
        # A file, not a pipe: psql writes errors at once, so all of them are there when the end mark comes.
        written = tempfile.NamedTemporaryFile(prefix="leann-psql.")
        self.errors = open(written.name, encoding="utf-8", errors="replace")  # an offset of its own
        self.process = subprocess.Popen(
            [program("psql"), "-X", "-q", "-A", "-t", "-v", "VERBOSITY=verbose", "-v", "SHOW_CONTEXT=never"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=written, env=self.env,
            text=True, encoding="utf-8", errors="replace", bufsize=1)
        written.close()
        self.lines = queue.Queue()
        self.count = 0
        self.sent, self.waiting, self.ended = None, [], False
        threading.Thread(target=self._read, daemon=True).start()
        self.pid = int(self.value("SELECT pg_backend_pid()"))

    def _read(self):
        for line in self.process.stdout:
            self.lines.put(line.rstrip("\n"))
        self.lines.put(None)

    def send(self, sql):
        """Starts a statement (or several) and comes back at once; `finish` waits for it."""
        self.count += 1
        self.sent, self.waiting, self.ended = f"-- end {self.count} of {id(self)}", [], False
        try:
            self.process.stdin.write(f"{sql}\n;\n\\echo {self.sent!r}\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise Lost(self.errors.read() or "the connection is gone") from None

    def answered(self, seconds):
        """Waits at most so long for what was sent; whether `finish` would come back at once."""
        deadline = time.monotonic() + seconds
        while not self.ended:
            try:
                line = self.lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                return False
            self.ended = line is None or line == self.sent
            self.waiting.append(line)
        return True

    def finish(self, timeout=600):
        """The output lines of what was sent. Raises SqlError for an ERROR, Lost when the connection ended."""
        if not self.answered(timeout):
            raise TimeoutError(f"no answer within {timeout} s")
        *lines, last = self.waiting
        if last is None:
            self.process.wait()
            raise Lost(self.errors.read() or "the connection is gone")
        errors = self.errors.read()
        if re.search(r"^(psql:.*)?(ERROR|FATAL|PANIC):|connection to server was lost|^server closed", errors, flags=re.M):
            raise (Lost if "connection" in errors and "lost" in errors else SqlError)(errors)
        return lines

    def run(self, sql, timeout=600):
        """Runs SQL; the lines psql printed."""
        self.send(sql)
        return self.finish(timeout)

    def rows(self, select, timeout=600):
        """The rows of one SELECT, each a list of texts (None for NULL)."""
        lines = self.run(f"COPY ({select}) TO STDOUT", timeout)
        return [[unescape(field) for field in line.split("\t")] for line in lines]

    def row(self, select, timeout=600):
        return self.rows(select, timeout)[0]

    def value(self, select, timeout=600):
        return self.row(select, timeout)[0]

    def copy_in(self, table, rows, escaped=False, timeout=600):
        """Loads rows (lists of texts) into a table; `escaped` ones are in COPY text format already."""
        self.process.stdin.write(f"COPY {table} FROM STDIN;\n")
        for row in rows:
            self.process.stdin.write("\t".join(row if escaped else map(escape, row)) + "\n")
        self.process.stdin.write("\\.\n")
        self.run("SELECT 1", timeout)

    def plan(self, select):
        """EXPLAIN (COSTS OFF) as text."""
        return "\n".join(self.run(f"EXPLAIN (COSTS OFF) {select}"))

    def close(self):
        if self.process.poll() is None:
            try:
                self.process.stdin.close()
            except BrokenPipeError:
                pass
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process.stdout.close()
        self.errors.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


# What no server may ever write.
LOG_FAULT = re.compile(r"PANIC:|terminated by signal|TRAP:|leak|still referenced|you don't own|resource was not closed|"
                       r"problem in alloc|detected write past")


class Cluster:
    """A private cluster (scripts/cluster.sh). Without `directory` it is a temporary one, removed at the end; then fsync is
    off, which a killed process survives (the kernel still has the writes). With `standby_of` it follows that cluster; with
    `upgrade_of` it takes that one over by pg_upgrade, which stops it. `pg_config` is that of another Postgres than
    PG_CONFIG's."""

    log_faults = []  # of all temporary clusters that this process has removed

    def __init__(self, *settings, directory=None, standby_of=None, upgrade_of=None, pg_config=None):
        self.temporary = directory is None
        self.pg_config = pg_config or os.environ.get("PG_CONFIG")
        self.directory = str(directory or tempfile.mkdtemp(prefix="leann-test.", dir="/tmp"))
        self.settings = (["fsync=off"] if self.temporary else []) + list(settings)
        if standby_of:
            self._call("clone", standby_of.directory)
        if upgrade_of:
            upgrade_of.stop()
            self._call("upgrade", upgrade_of.directory, upgrade_of.pg_config, *self.settings)
        self.start()

    def _call(self, command, *args):
        env = {**os.environ, **({"PG_CONFIG": self.pg_config} if self.pg_config else {})}
        result = subprocess.run([CLUSTER_SH, command, self.directory, *args], stdout=subprocess.PIPE, text=True, check=False, env=env)
        if result.returncode:
            raise RuntimeError(f"cluster.sh {command} {self.directory}: exit status {result.returncode}")
        return result.stdout

    def start(self, *more_settings):
        exports = self._call("start", *self.settings, *more_settings)
        self.env = dict(re.findall(r"^export (\w+)=(.*)$", exports, flags=re.M))

    def stop(self, mode="fast"):
        self._call("stop", mode)

    def kill(self):
        self._call("kill")

    def promote(self):
        self._call("promote")

    def remove(self):
        self.log_faults += self.faults_in_log()
        self._call("remove")

    def faults_in_log(self):
        """What the log has of crashes, failed assertions, and pins, locks, snapshots or memory that were not let go."""
        try:
            with self.log().open(errors="replace") as lines:
                return [line.strip() for line in lines if LOG_FAULT.search(line)]
        except OSError:
            return []  # it was never started

    def log(self):
        return pathlib.Path(self._call("log").strip())

    def session(self, database=None, name="session"):
        return Session({**self.env, **({"PGDATABASE": database} if database else {})}, name)

    def readable(self, path):
        """A copy of `path` that the server can read, or `path` itself."""
        return self._call("readable", str(path)).strip()

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind and self.temporary:
            print(f"--- end of the server's log:\n{self.tail()}", flush=True)
        if self.temporary:
            self.remove()

    def tail(self, lines=30):
        try:
            return "\n".join(self.log().read_text(errors="replace").splitlines()[-lines:])
        except OSError as error:
            return str(error)
