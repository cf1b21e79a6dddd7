#!/usr/bin/env python3
"""Checks that no line of code, comment or prose has more than 110 columns.

Looks at the files that git knows or would add (all, in a copy without git): Rust, Python, shell, TOML, YAML
and Markdown. Exempt are lines that only a URL makes too long, and tables and fenced code in Markdown. Prints
`FILE:LINE: N columns` for each line that is too long and exits with 1 if there are any.

    scripts/check_width.py [FILE ...]
"""

import re
import subprocess
import sys
import unicodedata
from pathlib import Path

ROOT = Path(__file__).parents[1]
MAX_COLUMNS = 110
SUFFIXES = {".rs", ".py", ".sh", ".toml", ".yml", ".yaml", ".md"}
# What git would leave out, where there is no git to ask.
BUILT = {".git", ".build", ".demo", "target"}
URL = re.compile(r"<?\bhttps?://\S+")
FENCE = re.compile(r"\s*(```+|~~~+)")


def columns(line):
    """Returns the columns that a line takes: East Asian wide characters take two, combining ones none."""
    if line.isascii():
        return len(line)
    wide = sum(unicodedata.east_asian_width(char) in "WF" for char in line)
    combining = sum(unicodedata.combining(char) != 0 for char in line)
    return len(line) + wide - combining


def long_lines(text, markdown=False):
    """Yields (line number, columns) for each line that is too long."""
    fence = None
    for number, line in enumerate(text.split("\n"), 1):
        if markdown:
            mark = FENCE.match(line)
            if mark and (fence is None or mark[1].startswith(fence)):
                fence = mark[1] if fence is None else None
                continue
            if fence or line.lstrip().startswith("|"):
                continue
        if columns(line) > MAX_COLUMNS and columns(URL.sub("", line)) > MAX_COLUMNS:
            yield number, columns(line)


def is_script(path):
    """Whether a file without a suffix starts with `#!`."""
    with open(path, "rb") as file:
        return file.read(2) == b"#!"


def files():
    """Returns the files to check."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
        paths = [ROOT / name for name in listed.split("\0") if name]
    except (OSError, subprocess.CalledProcessError):
        paths = [path for path in ROOT.rglob("*") if path.relative_to(ROOT).parts[0] not in BUILT]
    return [p for p in paths if p.is_file() and (p.suffix in SUFFIXES or (not p.suffix and is_script(p)))]


def main():
    status = 0
    for path in [Path(name).resolve() for name in sys.argv[1:]] or files():
        text = path.read_text(encoding="utf-8")
        name = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
        for number, width in long_lines(text, path.suffix == ".md"):
            print(f"{name}:{number}: {width} columns")
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
