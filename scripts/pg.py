"""Sessions on a Postgres server, on psycopg's libpq: run SQL and see what comes of it.

    with Session(name="reader") as session:                      # where PGHOST, PGPORT, ... say
        for id, title in session.rows("SELECT id, title FROM docs"): ...

All values are texts, as the server writes them. A string may hold several statements: each is sent as a query
of its own, so that VACUUM and its like may be among them, and the first one that fails ends it.

A statement can be sent now and finished later, so that a test watches it run:

    session.send("CREATE INDEX ...")
    while not session.answered(0.1): ...
    session.finish()
"""

import contextlib
import os
import re
import select
import socket
import time

try:
    import psycopg
    from psycopg import pq
except ImportError as error:
    raise SystemExit(f"{error}: run this with .build/venv/bin/python, which 'make deps' makes") from None

# Where one statement of a string ends, by what may hold a semicolon: strings, quoted names, dollar quotes,
# comments.
TOKEN = re.compile(
    r"""(?x) [eE]'(?:[^'\\]|\\.|'')*' | '(?:[^']|'')*' | "(?:[^"]|"")*"
    | (?P<tag>\$(?:[A-Za-z_]\w*)?\$).*?(?P=tag) | --[^\n]* | /\*.*?\*/ | \w[\w$]* | \s+ | .""",
    flags=re.S,
)
COPY_ESCAPES = {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"}
COPY_UNESCAPES = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
FIELDS = {"detail": pq.DiagnosticField.MESSAGE_DETAIL, "hint": pq.DiagnosticField.MESSAGE_HINT}


class SqlError(Exception):
    """An ERROR from the server: its SQLSTATE, message, DETAIL and HINT; as a text, all of these."""

    def __init__(self, text, sqlstate=None, message=None, detail=None, hint=None):
        super().__init__(text)
        self.sqlstate, self.message, self.detail, self.hint = sqlstate, message or text, detail, hint


class Lost(SqlError):
    """The session's connection is gone."""


def quote(value):
    """A text literal."""
    if value is None:
        return "NULL"
    value = str(value)
    if "\\" in value:
        return "E'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
    return "'" + value.replace("'", "''") + "'"


def unescape(field):
    """A field of COPY text format."""
    if field == r"\N":
        return None
    if "\\" not in field:
        return field
    return re.sub(r"\\(.)", lambda found: COPY_UNESCAPES.get(found[1], found[1]), field, flags=re.S)


def escape(value):
    """A value as a field of COPY text format."""
    if value is None:
        return r"\N"
    return re.sub(r"[\\\t\n\r]", lambda found: COPY_ESCAPES[found[0]], str(value))


def statements(sql):
    """The statements of a string, without those that are empty."""
    if ";" not in sql:
        return [sql]
    parts, start, depth = [], 0, 0
    for token in TOKEN.finditer(sql):
        text = token[0]
        if text == ";" and depth == 0:
            parts.append(sql[start : token.start()])
            start = token.end()
        elif text in "()":
            depth += 1 if text == "(" else -1
    parts.append(sql[start:])
    return [part for part in parts if part.strip()]


def text_of(value):
    return None if value is None else value.decode(errors="replace")


def rows_of(result):
    columns = range(result.nfields)
    return [[text_of(result.get_value(row, column)) for column in columns] for row in range(result.ntuples)]


class Session:
    """One connection. `env` has PGHOST and its like, where they are not those of the environment; `name` is
    its application_name; `parameters` are libpq's, as in user="visitor"."""

    def __init__(self, env=None, name="session", **parameters):
        known = {"PGHOST": "host", "PGPORT": "port", "PGUSER": "user", "PGDATABASE": "dbname"}
        given = {known[variable]: value for variable, value in (env or {}).items()}
        options = {"application_name": name, "client_encoding": "UTF8", **given, **parameters}
        self.notices = []  # texts, as in "WARNING:  ..."
        try:
            self.connection = psycopg.connect(autocommit=True, **options)
        except psycopg.OperationalError as error:
            raise Lost(str(error), error.sqlstate) from error
        self.pgconn = self.connection.pgconn
        self.pgconn.nonblocking = 0  # what is sent is sent whole
        self.pgconn.notice_handler = lambda result: self.notices.append(self._report(result))
        self.pid = self.pgconn.backend_pid
        # Of what was sent: statements not yet sent, rows so far, the error that ended it, whether it goes on.
        self.waiting, self.results, self.error, self.busy = [], [], None, False

    # One statement after the other, without waiting.

    def send(self, sql, timeout=600):
        """Starts a statement and comes back at once; `finish` waits for it. Of several, all but the last are
        waited for here."""
        self.waiting, self.results, self.error = statements(sql), [], None
        self._send_next()
        if not self._wait(lambda: not self.waiting, timeout):
            raise TimeoutError(f"no answer within {timeout} s")

    def answered(self, seconds):
        """Waits at most so long for what was sent; whether `finish` would come back at once."""
        return self._wait(lambda: False, seconds)

    def finish(self, timeout=600):
        """The output lines of what was sent: rows with | between their columns. Raises SqlError for an ERROR,
        Lost when the connection ended."""
        rows = self._finish(timeout)
        return [line for row in rows for line in "|".join(value or "" for value in row).split("\n")]

    def cancel(self):
        """Asks the server to cancel what is running."""
        self.pgconn.get_cancel().cancel()

    def drop(self):
        """Breaks the connection off without a word, as the death of a client does."""
        with socket.socket(fileno=os.dup(self.pgconn.socket)) as connection:
            connection.shutdown(socket.SHUT_RDWR)

    # The same with waiting.

    def run(self, sql, timeout=600):
        """Runs SQL; the lines that `finish` gives."""
        self.send(sql, timeout)
        return self.finish(timeout)

    def rows(self, select, timeout=600):
        """The rows of one SELECT, each a list of texts (None for NULL)."""
        self.send(select, timeout)
        return self._finish(timeout)

    def row(self, select, timeout=600):
        return self.rows(select, timeout)[0]

    def value(self, select, timeout=600):
        return self.row(select, timeout)[0]

    def copy_in(self, table, rows, escaped=False):
        """Loads rows (lists of texts) into a table; `escaped` ones are in COPY text format already."""
        self.checked(self.pgconn.exec_(f"COPY {table} FROM STDIN".encode()))
        for row in rows:
            line = "\t".join(row if escaped else map(escape, row)) + "\n"
            self.pgconn.put_copy_data(line.encode())
        self.pgconn.put_copy_end()
        while result := self.pgconn.get_result():
            self.checked(result)

    def checked(self, result):
        """The rows of a result of `pgconn`. Raises SqlError if it is an error."""
        if result.status == pq.ExecStatus.FATAL_ERROR:
            raise self._failure(result)
        return rows_of(result)

    def plan(self, select):
        """EXPLAIN (COSTS OFF) as text."""
        return "\n".join(self.run(f"EXPLAIN (COSTS OFF) {select}"))

    def close(self):
        self.connection.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # How.

    def _send_next(self):
        self.busy = False
        if self.waiting and self.error is None:
            try:
                self.pgconn.send_query(self.waiting.pop(0).encode())
                self.busy = True
            except psycopg.OperationalError as error:
                self._lose(str(error))

    def _wait(self, enough, seconds):
        """Takes results until nothing is under way any more, or until it is enough. False when time is up."""
        deadline = time.monotonic() + seconds
        while self.busy and not enough():
            try:
                if not self.pgconn.is_busy():
                    self._take(self.pgconn.get_result())
                    continue
                left = max(0.0, deadline - time.monotonic())
                if not select.select([self.pgconn.socket], [], [], left)[0]:
                    return False
                self.pgconn.consume_input()
            except psycopg.OperationalError as error:
                self._lose(str(error))
        return True

    def _take(self, result):
        """Keeps a result of the statement under way; None is its end."""
        if result is None:
            self._send_next()
        elif result.status == pq.ExecStatus.TUPLES_OK:
            self.results += rows_of(result)
        elif result.status == pq.ExecStatus.COPY_OUT:
            self._take_copy()
        elif result.status == pq.ExecStatus.COPY_IN:
            self.pgconn.put_copy_end(b"copy_in is for this")
        elif result.status == pq.ExecStatus.FATAL_ERROR:
            self.error = self.error or self._failure(result)
            if self.pgconn.status == pq.ConnStatus.BAD:
                self._lose(text_of(result.error_message))

    def _take_copy(self):
        with contextlib.suppress(psycopg.OperationalError):  # of which the next result tells
            while (chunk := self.pgconn.get_copy_data(0))[0] > 0:
                self.results.append([text_of(bytes(chunk[1])).removesuffix("\n")])

    def _finish(self, timeout):
        if not self.answered(timeout):
            raise TimeoutError(f"no answer within {timeout} s")
        if self.error:
            raise self.error
        return self.results

    def _lose(self, why):
        """The connection is gone: what the server said last, as an error or a notice, tells why."""
        last = self.error or next(
            (notice for notice in reversed(self.notices) if notice.startswith("FATAL")), ""
        )
        sqlstate = re.search(r"^\w+:  (\w{5}):", str(last))
        self.error = Lost(f"{last}\n{why}".strip(), sqlstate and sqlstate[1])
        self.busy = False

    def _field(self, result, field):
        return text_of(result.error_field(field))

    def _report(self, result):
        """An error or notice as a text."""
        severity = self._field(result, pq.DiagnosticField.SEVERITY_NONLOCALIZED)
        sqlstate = self._field(result, pq.DiagnosticField.SQLSTATE)
        lines = [f"{severity}:  {sqlstate}: {self._field(result, pq.DiagnosticField.MESSAGE_PRIMARY)}"]
        lines += [
            f"{name.upper()}:  {value}"
            for name, field in FIELDS.items()
            if (value := self._field(result, field))
        ]
        return "\n".join(lines)

    def _failure(self, result):
        if result.error_field(pq.DiagnosticField.SQLSTATE) is None:  # libpq's own
            return Lost(text_of(result.error_message))
        details = {name: self._field(result, field) for name, field in FIELDS.items()}
        message = self._field(result, pq.DiagnosticField.MESSAGE_PRIMARY)
        return SqlError(
            self._report(result), self._field(result, pq.DiagnosticField.SQLSTATE), message, **details
        )
