//! Runs a model so that Postgres's interrupts can cancel it.
//!
//! While a model runs, the backend's thread only waits: every few milliseconds it serves the interrupts that
//! are harmless. For those that may end the statement or the session, it has the workers stopped and
//! *joined*, and serves the interrupt afterwards. Threads are created with every signal blocked, because a
//! signal handler of Postgres must not run on any thread but the backend's own.

use leann_embed::Job;

use crate::pg::allocator;
use crate::pg::interrupts::{Watch, with_signals_blocked};

/// Runs `work` with a job that ends when an interrupt is pending that may raise an ERROR. `stopped` tells
/// from the result whether that happened; then the interrupt is served, which usually raises an ERROR. If it
/// raises nothing, `work` runs again. After a few attempts only interrupts that certainly raise an ERROR stop
/// it, so that it finishes however often others arrive.
pub fn interruptible<R>(threads: usize, stopped: impl Fn(&R) -> bool, mut work: impl FnMut(&Job) -> R) -> R {
    /// Attempts that any interrupt that may raise an ERROR stops.
    const CAREFUL_ATTEMPTS: usize = 3;
    for attempt in 0.. {
        allocator::demand();
        let watch = Watch::new(attempt < CAREFUL_ATTEMPTS);
        // An ERROR that the watch raises unwinds through the job, which stops and joins its threads on the
        // way.
        let should_stop = || watch.must_stop();
        let result = work(&Job {
            threads,
            should_stop: &should_stop,
            around_spawn: &|spawn| with_signals_blocked(spawn),
        });
        if !stopped(&result) {
            return result;
        }
        watch.end();
    }
    unreachable!("the loop above has no end of its own")
}
