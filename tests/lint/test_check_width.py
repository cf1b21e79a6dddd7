"""Tests of scripts/check_width.py."""

import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
from check_width import columns, long_lines

LONG = "word " * 22 + "x"


class Width(unittest.TestCase):
    def test_a_line_may_have_110_columns(self):
        self.assertEqual(list(long_lines(LONG[:110])), [])
        self.assertEqual(list(long_lines("short\n" + LONG)), [(2, 111)])

    def test_wide_characters_take_two_columns(self):
        self.assertEqual(columns("漢字"), 4)
        self.assertEqual(columns("e\u0301é"), 2)

    def test_a_url_may_be_long(self):
        self.assertEqual(list(long_lines("see https://example.org/" + "x" * 100)), [])
        self.assertEqual(len(list(long_lines(LONG + " https://example.org/"))), 1)

    def test_tables_and_code_of_markdown_may_be_long(self):
        text = f"| {LONG} |\n```sql\n{LONG}\n```\n"
        self.assertEqual(list(long_lines(text, markdown=True)), [])
        self.assertEqual(len(list(long_lines(text))), 2)

    def test_text_behind_a_fence_counts(self):
        text = f"````\n```\n{LONG}\n````\n{LONG}\n"
        self.assertEqual(list(long_lines(text, markdown=True)), [(5, 111)])


if __name__ == "__main__":
    unittest.main()
