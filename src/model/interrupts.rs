//! How a model at work and Postgres's signals get along.
//!
//! While a model runs, the backend's thread only waits: it looks for an interrupt every few milliseconds, has the
//! workers stopped and *joined*, and serves the interrupt afterwards. Threads are created with every signal blocked,
//! because a signal handler of Postgres must never run on any thread but its own.

use leann_embed::Job;
use pgrx::prelude::*;

use crate::pg::interrupts::with_signals_blocked;

/// Whether the backend has an interrupt that `CHECK_FOR_INTERRUPTS` would serve now.
fn interrupt_waits() -> bool {
    // SAFETY: plain reads of this process's own variables; the first is set by signal handlers, hence volatile.
    unsafe {
        (&raw const pg_sys::InterruptPending).read_volatile() != 0
            && pg_sys::InterruptHoldoffCount == 0
            && pg_sys::QueryCancelHoldoffCount == 0
            && pg_sys::CritSectionCount == 0
    }
}

/// Whether the interrupt that waits asks for the end of the statement or of the session.
fn end_waits() -> bool {
    // SAFETY: as above.
    unsafe {
        interrupt_waits()
            && ((&raw const pg_sys::QueryCancelPending).read_volatile() != 0
                || (&raw const pg_sys::ProcDiePending).read_volatile() != 0)
    }
}

/// Runs `work` with a job that ends when an interrupt waits. `stopped` tells from its result whether that happened;
/// then the interrupt is served, which mostly raises an ERROR. Some interrupts (a cache invalidation, a request for
/// memory statistics) raise nothing: then `work` is done again, and after a few times only for those that surely raise
/// is it stopped, so that it comes to an end however often such interrupts arrive.
pub fn interruptible<R>(threads: usize, stopped: impl Fn(&R) -> bool, mut work: impl FnMut(&Job) -> R) -> R {
    const PATIENT_ATTEMPTS: usize = 3;
    for attempt in 0.. {
        let should_stop: &dyn Fn() -> bool =
            if attempt < PATIENT_ATTEMPTS { &interrupt_waits } else { &end_waits };
        let result = work(&Job { threads, should_stop, around_spawn: &|spawn| with_signals_blocked(spawn) });
        if !stopped(&result) {
            return result;
        }
        pgrx::check_for_interrupts!();
    }
    unreachable!("the loop above has no end of its own")
}
