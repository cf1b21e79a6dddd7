//! How a model at work and Postgres's signals get along.
//!
//! While a model runs, the backend's thread only waits: every few milliseconds it serves the interrupts that are harmless, and for those
//! that may end the statement or the session it has the workers stopped and *joined*, and serves the interrupt afterwards. Threads are
//! created with every signal blocked, because a signal handler of Postgres must never run on any thread but its own.

use leann_embed::Job;

use crate::pg::interrupts::{Watch, with_signals_blocked};
use crate::pg::memory;

/// Runs `work` with a job that ends when an interrupt waits that may raise. `stopped` tells from its result whether that happened;
/// then the interrupt is served, which mostly raises an ERROR. Where it raises nothing `work` is done again, and after a few times
/// only for those that surely raise is it stopped, so that it comes to an end however often such interrupts arrive.
pub fn interruptible<R>(threads: usize, stopped: impl Fn(&R) -> bool, mut work: impl FnMut(&Job) -> R) -> R {
    const CAREFUL_ATTEMPTS: usize = 3;
    for attempt in 0.. {
        memory::demand();
        let watch = Watch::new(attempt < CAREFUL_ATTEMPTS);
        // An ERROR that the watch raises unwinds through the job, which stops and joins its threads on the way.
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
