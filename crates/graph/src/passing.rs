//! Candidates whose rows passed a filter and wait for their recompute, and the share of rows that pass.

use std::collections::BinaryHeap;

use crate::candidates::Candidate;
use crate::order::Score;

/// Checked rows that the share remembers. Filters go along with meaning, so the share among near rows is not
/// that among far ones, and the latest rows tell more than earlier ones.
const MEMORY: f32 = 256.0;
/// Checked rows that the share starts with, as if half of them had passed.
const PRIOR: f32 = 2.0;

/// Rows that passed, best on top.
pub(crate) struct Passing<K> {
    heap: BinaryHeap<Candidate<K>>,
    checked: f32,
    passed: f32,
}

impl<K: Copy> Passing<K> {
    pub(crate) fn new() -> Passing<K> {
        Passing { heap: BinaryHeap::new(), checked: PRIOR, passed: PRIOR / 2.0 }
    }

    /// Notes that a row passed.
    pub(crate) fn pass(&mut self, candidate: Candidate<K>) {
        self.count(1.0);
        self.heap.push(candidate);
    }

    /// Notes that a row did not pass.
    pub(crate) fn fail(&mut self) {
        self.count(0.0);
    }

    /// Puts a candidate back that was not recomputed after all.
    pub(crate) fn put_back(&mut self, candidate: Candidate<K>) {
        self.heap.push(candidate);
    }

    fn count(&mut self, passed: f32) {
        self.checked += 1.0;
        self.passed += passed;
        if self.checked > MEMORY {
            (self.checked, self.passed) = (self.checked / 2.0, self.passed / 2.0);
        }
    }

    /// Returns the share of rows that pass, more than 0.
    pub(crate) fn share(&self) -> f32 {
        // Even where none has passed, one may.
        (self.passed / self.checked).max(0.5 / MEMORY)
    }

    /// Returns the best row.
    pub(crate) fn peek(&self) -> Option<&Candidate<K>> {
        self.heap.peek()
    }

    /// Takes the best row.
    pub(crate) fn pop(&mut self) -> Option<Candidate<K>> {
        self.heap.pop()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Candidate<K>> {
        self.heap.iter()
    }

    /// Gives every row another rank.
    pub(crate) fn rank_again(&mut self, rank: impl Fn(&Candidate<K>) -> Score) {
        let mut rows = std::mem::take(&mut self.heap).into_vec();
        rows.iter_mut().for_each(|row| row.rank = rank(row));
        self.heap = rows.into();
    }

    /// Reserves memory for `more` rows. Returns false if the system refuses.
    pub(crate) fn try_reserve(&mut self, more: usize) -> bool {
        self.heap.try_reserve(more).is_ok()
    }
}
