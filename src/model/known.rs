//! Distances that running index scans know without a model: those of rows that they returned last, from indexes that
//! store embeddings.
//!
//! The executor works out the distance of every row that an ordered scan returns, if only to throw it away. For an index
//! without embeddings that costs nothing, the embedding having just been computed; for one that stores them it would run
//! the model, which such an index is there to avoid.

use std::cell::RefCell;
use std::collections::VecDeque;

use super::cache::Key;

/// Rows are looked up right after they are returned; several scans of one statement may take turns.
const KEPT: usize = 64;

struct Known {
    scan: u64,
    row: Key,
    query: Key,
    squared: f64,
}

thread_local! {
    static KNOWN: RefCell<VecDeque<Known>> = const { RefCell::new(VecDeque::new()) };
    static SCANS: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
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

    /// The scan returns this row, the square of whose L2 distance to the query is known.
    pub fn add(&self, row: Key, squared: f64) {
        KNOWN.with_borrow_mut(|known| {
            if known.len() >= KEPT {
                known.pop_front();
            }
            known.push_back(Known { scan: self.scan, row, query: self.query, squared });
        });
    }
}

impl Drop for Distances {
    fn drop(&mut self) {
        KNOWN.with_borrow_mut(|known| known.retain(|known| known.scan != self.scan));
    }
}

/// Whether any scan has made anything known.
pub fn is_empty() -> bool {
    KNOWN.with_borrow(VecDeque::is_empty)
}

/// The square of the L2 distance of a row and a query, if a scan that still runs has returned the row.
pub fn squared_distance(row: &Key, query: &[f32]) -> Option<f64> {
    let query = Key::of_vector(query);
    KNOWN.with_borrow(|known| {
        known.iter().rev().find(|known| known.row == *row && known.query == query).map(|known| known.squared)
    })
}
