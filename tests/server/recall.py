#!/usr/bin/env python3
"""Recall on real passages with the real model: built, grown from empty, built on a tenth and grown."""

import subprocess
import sys

from common import ROOT, check, main

# A few hundred passages, so that a machine with two cores needs a minute or two. So few rows fill a few node pages only,
# and the sketch's basis weighs on each: there is no bound on bytes or pages here (README.md has those of whole sets).
ROWS, QUERIES = 300, 25
BOUNDS = {
    "built": ["--min-recall", "0.95", "--max-recomputes", "30", "--max-ndcg-loss", "0.02"],
    "grown": ["--min-recall", "0.95", "--max-recomputes", "60", "--max-ndcg-loss", "0.02"],
    "tenth": ["--min-recall", "0.95", "--max-recomputes", "60", "--max-ndcg-loss", "0.02"],
}


def measured(mode):
    """One run of scripts/recall.py; the vectors of the truth are cached between them."""
    command = [sys.executable, str(ROOT / "scripts" / "recall.py"), "--data", str(ROOT / "samples" / "scifact"),
               "--limit-rows", str(ROWS), "--limit-queries", str(QUERIES), "--own-cluster",
               "--cache", str(ROOT / ".build" / "cache"), "--mode", mode, *BOUNDS[mode]]
    return check(f"recall, {mode}", subprocess.run(command, check=False).returncode == 0)


def built():
    measured("built")


def grown_from_empty():
    measured("grown")


def built_on_a_tenth():
    measured("tenth")


main(built, grown_from_empty, built_on_a_tenth)
