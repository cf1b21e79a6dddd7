#!/usr/bin/env python3
"""Checks the direction of imports between the Rust files of this repository.

1. In src/, a file imports its own layer and lower ones only (LAYERS).
2. In src/ and in each crate, no two files import each other. A submodule that uses an item which its parent
   defines forms such a pair with it, because the parent declares the submodule. An item that the parent only
   re-exports counts for the file that defines it.

Prints each violation as `FILE:LINE: what is wrong` and exits with 1 if there are any. Test modules do not
count.

    scripts/check_imports.py [ROOT]
"""

import re
import sys
from bisect import bisect_right
from dataclasses import dataclass, field
from pathlib import Path

# The layers of src/ from the top to the bottom. Each is a folder or a file of src/ and may import those after
# it.
LAYERS = ["lib", "am", "sql", "model", "value", "pg", "session", "guc", "encoding", "error"]

# Layers that import nothing at all.
BOTTOM = {"error"}

# Whether `mod child;` counts as an import of the child. If not, only the parent's uses of `child::` do.
DECLARING_IS_IMPORTING = True

TOKEN = re.compile(
    r"""
      (?P<line_comment> //[^\n]* )
    | (?P<block_comment> /\* )
    | (?P<raw> \b(?:b|c)?r(?P<hashes>\#*)" )
    | (?P<string> \b[bc]?" | " )
    | (?P<char> b?'(?:\\(?:u\{[^}]*\}|x..|.)|[^'\\])' )
    """,
    re.VERBOSE | re.DOTALL,
)
ATTRIBUTE = re.compile(r"#!?\[")
MODULE = re.compile(r"\bmod\s+(\w+)\s*([;{])")
USE = re.compile(r"\buse\s+((?:::)?\s*[\w{][^;]*);")
PATH = re.compile(r"(?<![\w:])(?:::\s*)?(crate|super|self)((?:\s*::\s*\w+)+)")
CHILD = re.compile(r"(?<![\w:])(?!(?:crate|self|super)\b)\w+(?:\s*::\s*\w+)+")
VISIBILITY = re.compile(r"\bpub\s*\(\s*in\b[^)]*\)")


def blank(text, start, end):
    """Returns the text with spaces in place of text[start:end]; line breaks stay."""
    return text[:start] + re.sub(r"[^\n]", " ", text[start:end]) + text[end:]


def end_of_block_comment(text, position):
    """Returns the end of the block comment that starts at the position. Block comments nest."""
    depth = 0
    for mark in re.finditer(r"/\*|\*/", text[position:]):
        depth += 1 if mark.group() == "/*" else -1
        if depth == 0:
            return position + mark.end()
    return len(text)


def without_comments_and_strings(text):
    """Returns the code with comments, strings and characters blanked."""
    position = 0
    while match := TOKEN.search(text, position):
        end = match.end()
        if match["block_comment"]:
            end = end_of_block_comment(text, match.start())
        elif match["raw"] is not None:
            close = text.find('"' + match["hashes"], end)
            end = len(text) if close < 0 else close + 1 + len(match["hashes"])
        elif match["string"]:
            close = re.compile(r'(?:[^"\\]|\\.)*"', re.DOTALL).match(text, end)
            end = close.end() if close else len(text)
        text = blank(text, match.start(), end)
        position = end
    return text


def closing(text, position):
    """Returns the position behind the bracket that closes the one at the position."""
    depth = 0
    for index in range(position, len(text)):
        if text[index] in "([{":
            depth += 1
        elif text[index] in ")]}":
            depth -= 1
            if depth == 0:
                return index + 1
    return len(text)


def end_of_item(text, position):
    """Returns the end of the item that starts at the position: behind its `;` or its block."""
    while position < len(text):
        if text[position] == ";":
            return position + 1
        if text[position] in ")]}":
            return position
        if text[position] in "([{":
            block = text[position] == "{"
            position = closing(text, position)
            # A block ends an item, but the braces of `use a::{b, c};` do not.
            if block and not re.match(r"\s*;", text[position:]):
                return position
            continue
        position += 1
    return len(text)


def is_for_tests(attribute):
    """Whether an attribute leaves its item out of every build but those for tests."""
    condition = re.match(r"#\[\s*cfg\s*\((.*)\)\s*\]$", attribute, re.DOTALL)
    if not condition:
        return False
    return bool(re.search(r"\btest\b", condition[1])) and not re.search(r"\bnot\b", condition[1])


def without_test_items(text):
    """Returns the code with every item under `#[cfg(test)]` blanked. Expects no comments and no strings."""
    position = 0
    while match := ATTRIBUTE.search(text, position):
        position = closing(text, match.end() - 1)
        if not is_for_tests(text[match.start() : position]):
            continue
        while following := re.compile(r"\s*#\[").match(text, position):
            position = closing(text, following.end() - 1)
        position = end_of_item(text, position)
        text = blank(text, match.start(), position)
    return text


def use_paths(tree):
    """Yields (path, name) for each leaf of a use tree. `a::{b as c, d}` has a::b as c and a::d as d."""
    tree = tree.strip().removeprefix("::").strip()
    head, brace, rest = tree.partition("{")
    if not brace:
        head, _, name = re.sub(r"\s+", " ", head).partition(" as ")
        path = [part.strip() for part in head.split("::")]
        if path[-1] == "self" and len(path) > 1:
            path.pop()
        yield path, name.strip() or path[-1]
        return
    prefix = head.strip().removesuffix("::").strip()
    depth, start = 0, 0
    rest = rest[: rest.rindex("}")] + ","
    for index, letter in enumerate(rest):
        depth += {"{": 1, "}": -1}.get(letter, 0)
        if letter == "," and depth == 0:
            part = rest[start:index].strip()
            start = index + 1
            if part:
                yield from use_paths(f"{prefix}::{part}" if prefix else part)


@dataclass
class File:
    """A source file, as the module that it is."""

    path: Path
    module: tuple
    # Paths from the crate's root that it names, with their lines.
    paths: list = field(default_factory=list)
    # What the names that its `use` declarations bring in stand for.
    names: dict = field(default_factory=dict)
    # The modules whose files it imports: for each the lines, with the path as it is after `crate`.
    imports: dict = field(default_factory=dict)


class Crate:
    """The files of one `src` folder and the imports between them."""

    def __init__(self, src):
        self.files = {}
        for path in sorted(src.rglob("*.rs")):
            names = list(path.relative_to(src).with_suffix("").parts)
            if names[-1] == "mod" or names == ["lib"]:
                names.pop()
            self.files[tuple(names)] = File(path, tuple(names))
        for file in self.files.values():
            read(file)
        for file in self.files.values():
            for line, path in sorted(file.paths):
                to = self.defining_file(path)
                if to and to is not file:
                    file.imports.setdefault(to.module, []).append((line, "::".join(["crate", *path])))

    def defining_file(self, path, hops=8):
        """Returns the file that defines what a path from the crate's root names; re-exports are followed."""
        for length in range(len(path), -1, -1):
            file = self.files.get(tuple(path[:length]))
            if file:
                rest = path[length:]
                if rest and rest[0] in file.names and hops:
                    return self.defining_file([*file.names[rest[0]], *rest[1:]], hops - 1)
                return file
        return None


def read(file):
    """Fills in the paths and the names of a file."""
    text = without_test_items(without_comments_and_strings(file.path.read_text(encoding="utf-8")))
    text = VISIBILITY.sub(lambda match: " " * len(match.group()), text)
    starts = [0, *(match.end() for match in re.finditer("\n", text))]
    inline, children = [], {}
    for match in MODULE.finditer(text):
        if match[2] == "{":
            inline.append((match.start(), closing(text, match.end() - 1), match[1]))
        else:
            children[match[1]] = match.start()

    def absolute(position, names):
        """Returns the path from the crate's root, or nothing if it leads to another crate."""
        inside = [name for start, end, name in inline if start < position < end]
        if names[0] == "crate":
            return names[1:]
        if names[0] not in ("self", "super"):
            return [*file.module, *names] if names[0] in children and not inside else None
        path = [*file.module, *inside]
        while names and names[0] in ("self", "super"):
            path = path[:-1] if names[0] == "super" else path
            names = names[1:]
        return [*path, *names]

    def add(position, path):
        file.paths.append((bisect_right(starts, position), path))

    if DECLARING_IS_IMPORTING:
        for name, position in children.items():
            add(position, [*file.module, name])
    for match in USE.finditer(text):
        for names, name in use_paths(match[1]):
            path = absolute(match.start(), [part for part in names if part != "*"] or ["*"])
            if path is not None:
                add(match.start(), path)
                file.names[name] = path
    rest = USE.sub(lambda match: re.sub(r"[^\n]", " ", match.group()), text)
    for match in PATH.finditer(rest):
        path = absolute(match.start(), [match[1], *re.findall(r"\w+", match[2])])
        add(match.start(), path)
    for match in CHILD.finditer(rest):
        path = absolute(match.start(), re.findall(r"\w+", match.group()))
        if path is not None:
            add(match.start(), path)


def layer_of(file):
    return file.module[0] if file.module else "lib"


def upward_imports(crate, layers=LAYERS, bottom=BOTTOM):
    """Yields (file, line, message) for each import that runs up the layers."""
    for file in crate.files.values():
        layer = layer_of(file)
        if layer not in layers:
            yield file, 1, f"{layer} is in no layer: add it to LAYERS in scripts/check_imports.py"
            continue
        for module, imports in file.imports.items():
            other = layer_of(crate.files[module])
            if other not in layers or other == layer:
                continue
            if layers.index(other) < layers.index(layer) or layer in bottom:
                for line, path in imports:
                    yield file, line, f"layer {layer} imports layer {other} ({path})"


def mutual_imports(crate, root):
    """Yields (file, line, message) once for each two files that import each other.

    The file is the child where one of them is the other's parent, and the first one otherwise.
    """
    for module, file in crate.files.items():
        for other, [(line, path), *_] in file.imports.items():
            back = crate.files[other].imports.get(module)
            is_child = module[: len(other)] == other
            is_parent = other[: len(module)] == module
            if back and (is_child or (not is_parent and module < other)):
                where = f"{crate.files[other].path.relative_to(root)}:{back[0][0]}"
                yield file, line, f"imports {path}, and {where} imports this file"


def violations(root):
    """Returns the lines to print, sorted by file and line."""
    found = []
    main = Crate(root / "src")
    found += upward_imports(main)
    for crate in [main, *(Crate(src) for src in sorted(root.glob("crates/*/src")))]:
        found += mutual_imports(crate, root)
    found.sort(key=lambda violation: (violation[0].path, violation[1]))
    return [f"{file.path.relative_to(root)}:{line}: {message}" for file, line, message in found]


def main():
    root = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parents[1]).resolve()
    lines = violations(root)
    print("\n".join(lines) if lines else "imports: no violation")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
