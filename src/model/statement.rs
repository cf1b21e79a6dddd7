//! Counts the texts that each statement has sent through a model. A statement is one message of the client:
//! what functions, loops and cursors run inside it counts with it.

use pgrx::pg_sys;

use crate::session::{self, State};

/// What one statement has done. Its begin identifies it.
#[derive(Clone, Copy, Default)]
struct Tally {
    began: pg_sys::TimestampTz,
    /// Texts sent through a model, for any reason.
    embedded: u64,
    /// Those of them that the guard counts.
    guarded: u64,
}

#[derive(Clone, Copy, Default)]
struct Tallies {
    /// The latest statement that embedded anything.
    latest: Tally,
    /// The latest statement that called `keep`.
    kept: Tally,
}

impl State for Tallies {}

/// Returns when the current statement began, which tells it from all others of the session.
pub fn began() -> pg_sys::TimestampTz {
    // SAFETY: reads a variable of this process.
    unsafe { pg_sys::GetCurrentStatementStartTimestamp() }
}

/// Returns the tally of the current statement.
fn current() -> Tally {
    let began = began();
    let Tallies { latest, .. } = session::get();
    if latest.began == began { latest } else { Tally { began, ..Tally::default() } }
}

fn set(tally: Tally) {
    session::with(|tallies: &mut Tallies| {
        tallies.latest = tally;
        if tallies.kept.began == tally.began {
            tallies.kept = tally;
        }
    });
}

/// Adds to the texts that the current statement has sent through a model.
pub fn add_embedded(texts: usize) {
    let mut tally = current();
    tally.embedded += texts as u64;
    set(tally);
}

/// Adds to what the guard counts of the current statement, and returns the sum.
pub fn add_guarded(texts: u64) -> u64 {
    let mut tally = current();
    tally.guarded += texts;
    set(tally);
    tally.guarded
}

/// Keeps the count of the current statement, to its end and beyond, until another statement calls this.
pub fn keep() {
    let current = current();
    session::with(|tallies: &mut Tallies| tallies.kept = current);
}

/// Returns the number of texts that the kept statement sent through a model.
pub fn kept() -> u64 {
    session::get::<Tallies>().kept.embedded
}
