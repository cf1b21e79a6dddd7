//! What the latest statement that searched did, over all its scans: the figures behind `leann.last_scan()`.

use crate::model::{Counters, statement};
use pgrx::pg_sys;
use std::cell::Cell;

/// Counts of one scan, or of all scans of a statement.
#[derive(Clone, Copy, Default, Debug)]
pub struct ScanStats {
    /// Scans begun.
    pub scans: u64,
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

const ZERO: ScanStats = ScanStats {
    scans: 0,
    pages: 0,
    nodes: 0,
    candidates: 0,
    recomputes: 0,
    cache_hits: 0,
    batches: 0,
    late: 0,
    model_ms: 0.0,
    walk_ms: 0.0,
};

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

    /// What came on top of `earlier` figures of the same scan or statement.
    pub fn since(&self, earlier: &ScanStats) -> ScanStats {
        ScanStats {
            scans: self.scans - earlier.scans,
            pages: self.pages - earlier.pages,
            nodes: self.nodes - earlier.nodes,
            candidates: self.candidates - earlier.candidates,
            recomputes: self.recomputes - earlier.recomputes,
            cache_hits: self.cache_hits - earlier.cache_hits,
            batches: self.batches - earlier.batches,
            late: self.late - earlier.late,
            model_ms: self.model_ms - earlier.model_ms,
            walk_ms: self.walk_ms - earlier.walk_ms,
        }
    }

    fn add(&mut self, more: &ScanStats) {
        self.scans += more.scans;
        self.pages += more.pages;
        self.nodes += more.nodes;
        self.candidates += more.candidates;
        self.recomputes += more.recomputes;
        self.cache_hits += more.cache_hits;
        self.batches += more.batches;
        self.late += more.late;
        self.model_ms += more.model_ms;
        self.walk_ms += more.walk_ms;
    }
}

/// The statement that searched last, known by when it began, and its figures.
#[derive(Clone, Copy)]
struct Statement {
    began: pg_sys::TimestampTz,
    stats: ScanStats,
}

thread_local! {
    static LAST: Cell<Statement> = const { Cell::new(Statement { began: 0, stats: ZERO }) };
}

/// What one scan has told about itself so far. A scan may go on through several statements, as that of a cursor does:
/// each of them has what it did.
#[derive(Default)]
pub struct Published(ScanStats);

impl Published {
    /// Adds what the scan did since the last time to the figures of the current statement. `now` are the scan's figures
    /// from its beginning.
    pub fn update(&mut self, now: &ScanStats) {
        let mut last = LAST.get();
        let began = statement::began();
        if last.began != began {
            last = Statement { began, stats: ZERO };
            statement::keep();
        }
        last.stats.add(&now.since(&self.0));
        LAST.set(last);
        self.0 = *now;
    }
}

/// The figures of the latest statement that searched; all zero before the first.
pub fn last_scan() -> ScanStats {
    LAST.get().stats
}

/// The figures of the current statement so far.
pub fn so_far() -> ScanStats {
    let last = LAST.get();
    if last.began == statement::began() { last.stats } else { ZERO }
}

/// All texts which that statement sent through a model, whatever for.
pub fn embedded() -> u64 {
    if LAST.get().began == 0 { 0 } else { statement::kept() }
}

/// Forgets the statement.
pub fn forget() {
    LAST.set(Statement { began: 0, stats: ZERO });
}
