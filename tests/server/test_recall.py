"""Recall on real passages with the real model: built, grown from empty, built on a tenth and grown."""

import subprocess
import sys

import pytest

from cluster import ROOT
from support.checks import check

# A few hundred passages, so that a machine with two cores needs a minute or two. So few rows fill a few node
# pages only, and the sketch's basis weighs on each: there is no bound on bytes or pages here (README.md has
# those of whole sets).
ROWS, QUERIES = 300, 25
BOUNDS = {
    "built": ["--min-recall", "0.95", "--max-recomputes", "30", "--max-ndcg-loss", "0.02"],
    "grown": ["--min-recall", "0.95", "--max-recomputes", "60", "--max-ndcg-loss", "0.02"],
    "tenth": ["--min-recall", "0.95", "--max-recomputes", "60", "--max-ndcg-loss", "0.02"],
}


@pytest.mark.parametrize("mode", BOUNDS)
def test_recall(mode):
    """One run of scripts/recall.py; the vectors of the truth are cached between them."""
    data, cache = ROOT / "samples" / "scifact", ROOT / ".build" / "cache"
    command = [
        sys.executable,
        ROOT / "scripts" / "recall.py",
        "--data",
        data,
        "--own-cluster",
        "--cache",
        cache,
    ]
    limits = ["--limit-rows", str(ROWS), "--limit-queries", str(QUERIES)]
    done = subprocess.run([*command, *limits, "--mode", mode, *BOUNDS[mode]], check=False)
    check(f"recall, {mode}", done.returncode == 0)
