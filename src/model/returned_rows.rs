//! Distances that running index scans know without a model: for each scan, that of the row it returned last.
//!
//! The executor computes the distance of every row that an ordered scan returns, even if only to discard it.
//! It does so while that row is the scan's latest, so one row per scan is enough to avoid a second run of the
//! model. Of a row that the executor drops, because a row-security policy hides it, nothing is left once the
//! scan continues or ends.

use super::cache::Key;
use crate::session::{self, State};

/// A row that its scan has just returned.
struct ReturnedRow {
    scan: u64,
    row: Key,
    query: Key,
    distance: ReturnedDistance,
}

/// What a scan knows of the distance of a row that it returns: the square of the L2 distance.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ReturnedDistance {
    Exact(f64),
    /// The row follows by its estimate, which stands for its distance.
    Estimated(f64),
    /// The row follows by its estimate, and has no distance.
    Unknown,
}

/// The latest rows of all scans of this session.
#[derive(Default)]
struct ReturnedRows {
    /// At most one row of each scan, the latest last.
    rows: Vec<ReturnedRow>,
    /// The number of scans so far. It numbers the next one.
    scans: u64,
}

impl ReturnedRows {
    fn forget_scan(&mut self, scan: u64) {
        self.rows.retain(|row| row.scan != scan);
    }
}

impl State for ReturnedRows {
    fn forget(&mut self) {
        self.rows.clear();
    }
}

/// Publishes the latest row of one scan, until it is dropped.
pub struct LatestRow {
    scan: u64,
    query: Key,
}

impl LatestRow {
    pub fn new(query: &[f32]) -> LatestRow {
        let scan = session::with(|known: &mut ReturnedRows| {
            known.scans += 1;
            known.scans
        });
        LatestRow { scan, query: Key::from_vector(query) }
    }

    /// Notes that the scan returns this row, and its distance to the query. The row before is forgotten.
    pub fn set(&self, row: Key, distance: ReturnedDistance) {
        session::with(|known: &mut ReturnedRows| {
            known.forget_scan(self.scan);
            known.rows.push(ReturnedRow { scan: self.scan, row, query: self.query, distance });
        });
    }

    /// Notes that the scan continues, returns a row whose distance it does not know, or ends.
    pub fn clear(&self) {
        session::with(|known: &mut ReturnedRows| known.forget_scan(self.scan));
    }
}

impl Drop for LatestRow {
    fn drop(&mut self) {
        self.clear();
    }
}

/// Returns whether no scan has a row with a known distance.
pub fn is_empty() -> bool {
    session::with(|known: &mut ReturnedRows| known.rows.is_empty())
}

/// Returns the distance between a row and a query, if a scan that still runs returned the row last.
pub fn distance(row: &Key, query: &[f32]) -> Option<ReturnedDistance> {
    let query = Key::from_vector(query);
    session::with(|known: &mut ReturnedRows| {
        known
            .rows
            .iter()
            .rev()
            .find(|known| known.row == *row && known.query == query)
            .map(|known| known.distance)
    })
}
