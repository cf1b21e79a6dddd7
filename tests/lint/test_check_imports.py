"""Tests of scripts/check_imports.py."""

import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
import check_imports


def violations(files):
    """Returns what is found in a repository of these files, given by path."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder).resolve()
        for name, text in {"src/lib.rs": "", **files}.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text, encoding="utf-8")
        return check_imports.violations(root)


class Layers(unittest.TestCase):
    def test_imports_of_lower_layers_pass(self):
        files = {
            "src/lib.rs": "mod am;\nmod pg;\nmod error;\n",
            "src/am/mod.rs": "use crate::pg::Rel;\nuse crate::error;\n",
            "src/pg/mod.rs": "use crate::error::Error;\n",
            "src/error.rs": "",
        }
        self.assertEqual(violations(files), [])

    def test_each_upward_import_is_named_with_its_line(self):
        files = {
            "src/am/errors.rs": "",
            "src/pg/mod.rs": "\nuse crate::am::errors::raise;\n\nfn f() {\n crate::am::errors::stop();\n}\n",
        }
        self.assertEqual(
            violations(files),
            [
                "src/pg/mod.rs:2: layer pg imports layer am (crate::am::errors::raise)",
                "src/pg/mod.rs:5: layer pg imports layer am (crate::am::errors::stop)",
            ],
        )

    def test_use_trees_are_taken_apart(self):
        files = {
            "src/am/mod.rs": "",
            "src/sql/mod.rs": "",
            "src/model/mod.rs": "use std::fmt;\nuse crate::{\n am::{self, Index},\n sql as names,\n};\n",
        }
        self.assertEqual(
            [line.partition(": ")[2] for line in violations(files)],
            [
                "layer model imports layer am (crate::am)",
                "layer model imports layer am (crate::am::Index)",
                "layer model imports layer sql (crate::sql)",
            ],
        )

    def test_super_leads_out_of_a_layer(self):
        files = {"src/am/mod.rs": "", "src/pg/buffer.rs": "fn f() { super::super::am::stop() }\n"}
        self.assertEqual(
            violations(files), ["src/pg/buffer.rs:1: layer pg imports layer am (crate::am::stop)"]
        )

    def test_super_in_an_inline_module_is_the_file_itself(self):
        self.assertEqual(violations({"src/pg/buffer.rs": "mod ffi { use super::Page; }\n"}), [])

    def test_nothing_is_below_the_error(self):
        files = {"src/guc.rs": "", "src/error.rs": "use crate::guc;\n"}
        self.assertEqual(violations(files), ["src/error.rs:1: layer error imports layer guc (crate::guc)"])

    def test_a_file_outside_the_layers_is_named(self):
        self.assertIn("src/other.rs:1: other is in no layer", violations({"src/other.rs": ""})[0])


class Code(unittest.TestCase):
    def clean(self, text):
        self.assertEqual(violations({"src/am/mod.rs": "", "src/pg/mod.rs": text}), [])

    def test_comments_do_not_import(self):
        self.clean("// use crate::am;\n/// See [`crate::am`].\n")
        self.clean("/* use crate::am; /* nested */ crate::am::x */\n")

    def test_strings_do_not_import(self):
        self.clean('const A: &str = "\\" crate::am::x";\n')
        self.clean('const B: &str = r#"" crate::am::x"#;\n')

    def test_a_quoted_quote_opens_no_string(self):
        text = "const C: char = '\"'; use crate::am; // \"\n"
        self.assertEqual(len(violations({"src/am/mod.rs": "", "src/pg/mod.rs": text})), 1)

    def test_a_lifetime_opens_no_character(self):
        text = "fn f<'a>(x: &'a str) -> &'a str { crate::am::g(x) }\n"
        self.assertEqual(len(violations({"src/am/mod.rs": "", "src/pg/mod.rs": text})), 1)

    def test_test_modules_do_not_import(self):
        self.clean("#[cfg(test)]\n#[allow(unused)]\nmod tests {\n use crate::am::{a, b};\n fn f() {}\n}\n")
        self.clean('#[cfg(any(test, feature = "pg_test"))]\nuse crate::am::{a, b};\n')

    def test_code_behind_a_test_module_imports(self):
        text = "#[cfg(test)]\nmod tests { fn f() {} }\nuse crate::am;\n"
        self.assertEqual(len(violations({"src/am/mod.rs": "", "src/pg/mod.rs": text})), 1)

    def test_code_that_tests_leave_out_imports(self):
        text = "#[cfg(not(test))]\nuse crate::am;\n"
        self.assertEqual(len(violations({"src/am/mod.rs": "", "src/pg/mod.rs": text})), 1)

    def test_a_visibility_is_no_import(self):
        self.clean("pub(in crate::am) fn f() {}\n")


class Circles(unittest.TestCase):
    def test_two_files_that_import_each_other_are_named_once(self):
        files = {"src/am/a.rs": "use super::b;\n", "src/am/b.rs": "\nuse crate::am::a::A;\n"}
        self.assertEqual(
            violations(files), ["src/am/a.rs:1: imports crate::am::b, and src/am/b.rs:2 imports this file"]
        )

    def test_a_child_that_uses_its_parent_is_named(self):
        files = {"src/pg/mod.rs": "pub mod wal;\npub struct Rel;\n", "src/pg/wal.rs": "use super::Rel;\n"}
        self.assertEqual(
            violations(files),
            ["src/pg/wal.rs:1: imports crate::pg::Rel, and src/pg/mod.rs:1 imports this file"],
        )

    def test_a_sibling_is_no_parent(self):
        files = {
            "src/pg/mod.rs": "pub mod wal;\nmod page;\n",
            "src/pg/page.rs": "",
            "src/pg/wal.rs": "use super::page::P;\n",
        }
        self.assertEqual(violations(files), [])

    def test_a_re_export_leads_to_where_an_item_is_defined(self):
        files = {
            "crates/x/src/lib.rs": "mod error;\nmod walk;\npub use error::{Fault as Error};\n",
            "crates/x/src/error.rs": "pub enum Fault {}\n",
            "crates/x/src/walk.rs": "use crate::Error;\n",
        }
        self.assertEqual(violations(files), [])

    def test_crates_are_looked_at(self):
        files = {
            "crates/x/src/lib.rs": "mod walk;\npub const N: u32 = 1;\n",
            "crates/x/src/walk.rs": "const M: u32 = crate::N;\n",
        }
        self.assertEqual(
            violations(files),
            ["crates/x/src/walk.rs:1: imports crate::N, and crates/x/src/lib.rs:1 imports this file"],
        )

    def test_tests_may_use_what_they_test(self):
        files = {
            "src/pg/mod.rs": "mod wal;\n",
            "src/pg/wal.rs": "#[cfg(test)]\nmod tests { use super::super::*; }\n",
        }
        self.assertEqual(violations(files), [])


if __name__ == "__main__":
    unittest.main()
