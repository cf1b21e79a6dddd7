//! What this session's latest scan did: the figures behind `leann.last_scan()`.

use crate::model::Counters;
use std::cell::Cell;

/// Counts of one scan.
#[derive(Clone, Copy, Default, Debug)]
pub struct ScanStats {
    /// Node pages read.
    pub pages: u64,
    /// Nodes scored by their sketch.
    pub nodes: u64,
    /// Candidates whose rows were looked up.
    pub candidates: u64,
    /// Rows embedded again.
    pub recomputes: u64,
    /// Rows whose embedding was in the cache.
    pub cache_hits: u64,
    /// Calls of the model for rows.
    pub batches: u64,
    /// Rows that turned out nearer than one already returned.
    pub late: u64,
    /// Milliseconds in the model, the query included.
    pub model_ms: f64,
    /// Milliseconds in the walk and in scoring: all work on the index's own pages.
    pub walk_ms: f64,
}

impl ScanStats {
    /// Adds what the model did for rows between two readings of its counters.
    pub fn add_model_work(&mut self, before: &Counters, after: &Counters) {
        self.recomputes += after.recomputes - before.recomputes;
        self.cache_hits += after.cache_hits - before.cache_hits;
        self.batches += after.batches - before.batches;
        self.add_model_time(before, after);
    }

    /// Adds only the time: for embedding the query, which is no recompute.
    pub fn add_model_time(&mut self, before: &Counters, after: &Counters) {
        self.model_ms += after.model_ms - before.model_ms;
    }
}

thread_local! {
    static LAST: Cell<ScanStats> = const { Cell::new(ScanStats {
        pages: 0, nodes: 0, candidates: 0, recomputes: 0, cache_hits: 0, batches: 0, late: 0, model_ms: 0.0, walk_ms: 0.0,
    }) };
}

/// Makes these the figures of the latest scan.
pub fn publish(stats: &ScanStats) {
    LAST.set(*stats);
}

/// Forgets the figures of the latest scan.
pub fn forget() {
    LAST.set(ScanStats::default());
}

/// The figures of the latest scan; all zero before the first.
pub fn last_scan() -> ScanStats {
    LAST.get()
}
