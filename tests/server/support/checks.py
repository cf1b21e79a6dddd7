"""Checks that are counted one by one. A check that fails lets its case go on, and fails it at its end."""

import os

from pg import SqlError

# LEANN_SOAK=1 (make soak): the tests that load a server do so for minutes instead of seconds.
SOAK = bool(os.environ.get("LEANN_SOAK"))


class Record:
    """What this run has checked so far; conftest.py reads it and sets `write`."""

    def __init__(self):
        self.total = 0
        self.failed = []  # names of checks
        self.write = print


record = Record()


def check(name, condition, detail=""):
    """Reports `ok name`, or `not ok name: detail`; returns the condition."""
    record.total += 1
    if condition:
        record.write(f"ok {name}")
    else:
        record.failed.append(name)
        record.write(f"not ok {name}" + (f": {detail}" if detail else ""))
    return condition


def note(text):
    """Adds a line to the report that is no check."""
    record.write(f"   {text}")


def error_of(session, sql, timeout=600):
    """The SqlError that a statement ends with; None if it works."""
    try:
        session.run(sql, timeout)
    except SqlError as error:
        return error
    return None


def said_by(session, sql, timeout=600):
    """All that a failing statement says, as one text."""
    error = error_of(session, sql, timeout)
    return str(error) if error else "no error"


def check_refused(name, session, sql, sqlstate, *words):
    """The statement ends with an error of this SQLSTATE that has these words."""
    error = error_of(session, sql)
    said = str(error) if error else "no error"
    return check(
        name, error is not None and error.sqlstate == sqlstate and all(word in said for word in words), said
    )
