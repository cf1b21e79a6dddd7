//! Counts what the models of this session have done.

use crate::session::{self, State};

/// What this session's models have done since the session began. A caller takes the difference of two
/// readings.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Counters {
    /// Texts embedded in the passage role.
    pub recomputes: u64,
    /// Texts embedded in the query role.
    pub queries: u64,
    /// Texts whose embedding was in a cache, or that occurred twice in one call.
    pub cache_hits: u64,
    /// Runs of a model.
    pub batches: u64,
    /// Texts that exceeded their model's limit of tokens and were cut.
    pub truncated: u64,
    /// Milliseconds spent waiting for models, without the time to load them.
    pub model_ms: f64,
}

impl State for Counters {}

/// Returns the counters as they are now.
pub fn counters() -> Counters {
    session::get()
}

/// Adds to the counters.
pub(super) fn count(add: impl FnOnce(&mut Counters)) {
    session::with(add);
}
