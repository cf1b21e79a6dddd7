//! Counts what the latest statement that searched did in all its scans: the figures of `leann.last_scan()`.

use crate::model::{Counters, statement};
use crate::session::{self, State};
use pgrx::pg_sys;

/// Counts of one scan, or of all scans of a statement.
#[derive(Clone, Copy, Default, Debug)]
pub struct ScanStats {
    /// Scans begun.
    pub scans: u64,
    /// Node pages read.
    pub pages: u64,
    /// Nodes scored by their sketch.
    pub nodes: u64,
    /// Candidates that a filter was evaluated on.
    pub checked: u64,
    /// Candidates whose rows were read to make their distances exact.
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

    /// Adds only the time that the model took. Embedding the query is not a recompute.
    pub fn add_model_time(&mut self, before: &Counters, after: &Counters) {
        self.model_ms += after.model_ms - before.model_ms;
    }

    /// Returns the sum of both.
    pub fn plus(mut self, more: &ScanStats) -> ScanStats {
        self.add(more);
        self
    }

    /// Returns what was added since `earlier` figures of the same scan or statement.
    pub fn since(&self, earlier: &ScanStats) -> ScanStats {
        ScanStats {
            scans: self.scans - earlier.scans,
            pages: self.pages - earlier.pages,
            nodes: self.nodes - earlier.nodes,
            checked: self.checked - earlier.checked,
            candidates: self.candidates - earlier.candidates,
            recomputes: self.recomputes - earlier.recomputes,
            cache_hits: self.cache_hits - earlier.cache_hits,
            batches: self.batches - earlier.batches,
            late: self.late - earlier.late,
            model_ms: self.model_ms - earlier.model_ms,
            walk_ms: self.walk_ms - earlier.walk_ms,
        }
    }

    /// Adds the counts of another scan.
    pub fn add(&mut self, more: &ScanStats) {
        self.scans += more.scans;
        self.pages += more.pages;
        self.nodes += more.nodes;
        self.checked += more.checked;
        self.candidates += more.candidates;
        self.recomputes += more.recomputes;
        self.cache_hits += more.cache_hits;
        self.batches += more.batches;
        self.late += more.late;
        self.model_ms += more.model_ms;
        self.walk_ms += more.walk_ms;
    }
}

/// What a scan was asked for.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Question {
    /// Rows that are decided on together.
    pub group_size: usize,
    /// The largest L2 distance of wanted rows, if there is a bound.
    pub bound: Option<f64>,
}

/// The latest statement that searched, identified by its start, and its figures.
#[derive(Clone, Copy, Default)]
struct LastStatement {
    began: pg_sys::TimestampTz,
    stats: ScanStats,
    /// That of its latest scan.
    question: Option<Question>,
}

impl State for LastStatement {
    fn forget(&mut self) {
        *self = LastStatement::default();
    }
}

/// The figures that one scan has added to its statements so far. A scan may go on through several statements,
/// as that of a cursor does, and each of them counts its part.
#[derive(Default)]
pub struct Published(ScanStats);

/// Notes what a scan of the current statement was asked for, after its first figures were published.
pub fn note_question(question: Question) {
    session::with(|last: &mut LastStatement| last.question = Some(question));
}

impl Published {
    /// Adds what the scan did since the last call to the figures of the current statement. `now` counts from
    /// the start of the scan.
    pub fn update(&mut self, now: &ScanStats) {
        let mut last: LastStatement = session::get();
        let began = statement::began();
        if last.began != began {
            last = LastStatement { began, ..LastStatement::default() };
            statement::keep();
        }
        last.stats.add(&now.since(&self.0));
        session::with(|kept: &mut LastStatement| *kept = last);
        self.0 = *now;
    }
}

/// Returns the figures of the latest statement that searched, and what its latest scan was asked for. All are
/// zero before the first.
pub fn last_scan() -> (ScanStats, Option<Question>) {
    let last: LastStatement = session::get();
    (last.stats, last.question)
}

/// Returns the figures of the current statement so far.
pub fn current_statement() -> ScanStats {
    let last: LastStatement = session::get();
    if last.began == statement::began() { last.stats } else { ScanStats::default() }
}

/// Returns the number of texts that the latest statement that searched sent through a model, for any purpose.
pub fn embedded() -> u64 {
    if session::get::<LastStatement>().began == 0 { 0 } else { statement::kept() }
}
