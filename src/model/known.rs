//! Distances that running index scans know without a model: each that of the row which it returned last.
//!
//! The executor works out the distance of every row that an ordered scan returns, if only to throw it away. It asks about a
//! row while that row is the scan's latest: so one per scan is enough to spare a second run of the model, and of a row that
//! the executor drops, because a policy of row security hides it, nothing is left once the scan goes on or ends.

use std::cell::{Cell, RefCell};

use super::cache::Key;

struct Known {
    scan: u64,
    row: Key,
    query: Key,
    squared: f64,
}

thread_local! {
    /// At most one of each scan, the latest last.
    static KNOWN: RefCell<Vec<Known>> = const { RefCell::new(Vec::new()) };
    static SCANS: Cell<u64> = const { Cell::new(0) };
}

/// What one scan makes known, until it is dropped.
pub struct Distances {
    scan: u64,
    query: Key,
}

impl Distances {
    pub fn new(query: &[f32]) -> Distances {
        SCANS.set(SCANS.get() + 1);
        Distances { scan: SCANS.get(), query: Key::of_vector(query) }
    }

    /// The scan returns this row, the square of whose L2 distance to the query is known. That of the row before is not
    /// known any more.
    pub fn returned(&self, row: Key, squared: f64) {
        KNOWN.with_borrow_mut(|known| {
            known.retain(|known| known.scan != self.scan);
            known.push(Known { scan: self.scan, row, query: self.query, squared });
        });
    }

    /// The scan goes on, returns a row whose distance it does not know, or ends.
    pub fn forget(&self) {
        KNOWN.with_borrow_mut(|known| known.retain(|known| known.scan != self.scan));
    }
}

impl Drop for Distances {
    fn drop(&mut self) {
        self.forget();
    }
}

/// Whether any scan has made anything known.
pub fn is_empty() -> bool {
    KNOWN.with_borrow(Vec::is_empty)
}

/// The square of the L2 distance of a row and a query, if a scan that still runs returned the row last.
pub fn squared_distance(row: &Key, query: &[f32]) -> Option<f64> {
    let query = Key::of_vector(query);
    KNOWN.with_borrow(|known| {
        known.iter().rev().find(|known| known.row == *row && known.query == query).map(|known| known.squared)
    })
}

/// Forgets them all.
pub fn clear() {
    KNOWN.with_borrow_mut(Vec::clear);
}
