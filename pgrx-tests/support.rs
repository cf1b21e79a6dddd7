//! Shared by the in-server tests: the server's settings, and errors as values.

use std::path::PathBuf;

use pgrx::prelude::*;

/// A synthetic model of a few kilobytes that hashes tokens: fast, and the same everywhere.
pub const MODEL: &str = "tiny-hash";

/// Another such model, with other dimensions and with prompts.
pub const OTHER_MODEL: &str = "tiny-hash-b";

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

pub fn model_dir() -> PathBuf {
    root().join("tests/models")
}

pub fn onnxruntime_library() -> PathBuf {
    std::env::var_os("LEANN_ONNXRUNTIME")
        .map_or_else(|| root().join(".build/onnxruntime/libonnxruntime.so"), PathBuf::from)
}

/// Returns the settings of the server that `cargo pgrx test` starts.
#[cfg(test)]
pub fn postgresql_conf_options() -> Vec<&'static str> {
    vec![
        format!("leann.model_dir = '{}'", model_dir().display()).leak(),
        format!("leann.onnxruntime_library = '{}'", onnxruntime_library().display()).leak(),
        format!("leann.default_model = '{MODEL}'").leak(),
    ]
}

/// Returns the value of a query that returns one.
pub fn one<T: FromDatum + IntoDatum>(query: &str) -> Option<T> {
    Spi::get_one::<T>(query).unwrap_or_else(|error| panic!("{query}: {error}"))
}

pub fn run(command: &str) {
    Spi::run(command).unwrap_or_else(|error| panic!("{command}: {error}"));
}

/// An ERROR as a client sees it.
#[derive(Debug, PartialEq)]
pub struct Failure {
    pub sqlstate: String,
    pub message: String,
    pub detail: String,
    pub hint: String,
}

/// Runs a statement that must fail, in its own subtransaction.
pub fn failure(statement: &str) -> Failure {
    // Created once, because a test may have changed its role since.
    if one::<bool>("SELECT to_regproc('pg_temp.failure') IS NULL") == Some(true) {
        run("CREATE FUNCTION pg_temp.failure(statement text) RETURNS text[] LANGUAGE plpgsql AS $$
         DECLARE
             state text; message text; detail text; hint text;
         BEGIN
             EXECUTE statement;
             RETURN NULL;
         EXCEPTION WHEN OTHERS THEN
             GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT,
                 detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
             RETURN ARRAY[state, message, detail, hint];
         END $$");
    }
    let parts = Spi::get_one_with_args::<Vec<String>>("SELECT pg_temp.failure($1)", &[statement.into()])
        .expect("the function of the line above")
        .unwrap_or_else(|| panic!("this should have failed: {statement}"));
    let [sqlstate, message, detail, hint] = parts.try_into().expect("four parts");
    Failure { sqlstate, message, detail, hint }
}

/// Checks that a statement fails with this SQLSTATE and a message that contains these words, and returns its
/// error.
pub fn fails(statement: &str, sqlstate: &str, words: &str) -> Failure {
    let failure = failure(statement);
    assert_eq!(failure.sqlstate, sqlstate, "{statement}: {failure:?}");
    assert!(failure.message.contains(words), "{statement}: {failure:?}");
    failure
}

/// Returns numbers that look random and are the same in every run (the generator of Knuth's MMIX).
pub struct Numbers(u64);

impl Numbers {
    pub fn new(seed: u64) -> Numbers {
        Numbers(seed)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((self.0 >> 33) as usize) % bound
    }

    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }
}
