//! How a caller stops long work, and why work has no result.

/// Polled between blocks of work, on any thread of the pool: true gives the work up.
pub type Stop<'a> = &'a (dyn Fn() -> bool + Sync);

/// Why there is no result.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Unfinished {
    /// The caller's `stop` returned true, and the work was given up.
    #[error("stopped by the caller")]
    Stopped,
    /// The system refused memory.
    #[error("out of memory")]
    NoMemory,
}
