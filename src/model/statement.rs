//! How many texts each statement has sent through a model. A statement is one message of the client: what functions, loops and
//! cursors run inside it counts with it.

use std::cell::Cell;

use pgrx::pg_sys;

/// What one statement has done, known by when it began.
#[derive(Clone, Copy)]
struct Tally {
    began: pg_sys::TimestampTz,
    /// Texts sent through a model, for whatever reason.
    embedded: u64,
    /// Those of them that the guard counts.
    guarded: u64,
}

const NONE: Tally = Tally { began: 0, embedded: 0, guarded: 0 };

thread_local! {
    /// The latest statement that embedded anything.
    static LATEST: Cell<Tally> = const { Cell::new(NONE) };
    /// The one that `keep` was called in last.
    static KEPT: Cell<Tally> = const { Cell::new(NONE) };
}

/// When the current statement began, which tells it from all others of the session.
pub fn began() -> pg_sys::TimestampTz {
    // SAFETY: reads a variable of this process.
    unsafe { pg_sys::GetCurrentStatementStartTimestamp() }
}

fn current() -> Tally {
    let began = began();
    let latest = LATEST.get();
    if latest.began == began { latest } else { Tally { began, ..NONE } }
}

fn set(tally: Tally) {
    LATEST.set(tally);
    if KEPT.get().began == tally.began {
        KEPT.set(tally);
    }
}

/// The current statement has sent so many texts through a model.
pub fn embedded(texts: usize) {
    let mut tally = current();
    tally.embedded += texts as u64;
    set(tally);
}

/// Adds to what the guard counts of the current statement; the sum.
pub fn guarded(texts: u64) -> u64 {
    let mut tally = current();
    tally.guarded += texts;
    set(tally);
    tally.guarded
}

/// Keeps the count of the current statement, to its end and beyond, until this is called in another one.
pub fn keep() {
    KEPT.set(current());
}

/// Texts that the kept statement sent through a model.
pub fn kept() -> u64 {
    KEPT.get().embedded
}
