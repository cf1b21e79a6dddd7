//! Candidates of a rerank: nodes that were scored, with the chance that their rows are better than others,
//! and a queue of them.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use crate::order::Score;

/// Standard errors beyond which one row's error counts no more: a freak row must not outweigh the others.
const MAX_ERRORS_OFF: f32 = 4.0;
/// Candidates put in order at first; doubles every time that more are needed.
const FIRST_CHUNK: usize = 256;

/// A node that was scored and not yet visited.
#[derive(Clone, Copy)]
pub(crate) struct Candidate<K> {
    /// What the queue is ordered by: the somewhat optimistic estimate, or the plain one beyond
    /// `max_recompute`.
    pub(crate) rank: Score,
    pub(crate) similarity: f32,
    pub(crate) error: f32,
    pub(crate) key: K,
}

impl<K> Candidate<K> {
    /// Returns the chance that its row is better than `similarity`, if estimates are too low by `bias`
    /// standard errors.
    pub(crate) fn chance_beyond(&self, similarity: f32, bias: f32) -> f32 {
        let behind = similarity - self.similarity;
        if self.error > 0.0 { normal_tail(behind / self.error - bias) } else { f32::from(behind < 0.0) }
    }

    /// Returns what rows of the same text have in common: the bits of their estimates.
    pub(crate) fn twins(&self) -> (u32, u32) {
        (self.similarity.to_bits(), self.error.to_bits())
    }

    /// Returns the candidate with the exact similarity of a row of the same text in place of the estimate.
    pub(crate) fn known(self, similarity: f32) -> Candidate<K> {
        Candidate { rank: Score::new(similarity), similarity, error: 0.0, key: self.key }
    }

    /// Returns by how many standard errors the estimate was too low.
    pub(crate) fn errors_off(&self, similarity: f32) -> f32 {
        if self.error > 0.0 {
            ((similarity - self.similarity) / self.error).clamp(-MAX_ERRORS_OFF, MAX_ERRORS_OFF)
        } else {
            0.0
        }
    }
}

/// Returns the chance that a normal variable exceeds its mean by more than `z` standard deviations, to 2e-4
/// (Bowling et al., "A logistic approximation to the cumulative normal distribution", JIEM 2009).
pub(crate) fn normal_tail(z: f32) -> f32 {
    1.0 / (1.0 + (1.5976 * z + 0.070565 * z * z * z).exp())
}

impl<K> PartialEq for Candidate<K> {
    fn eq(&self, other: &Candidate<K>) -> bool {
        self.rank == other.rank
    }
}
impl<K> Eq for Candidate<K> {}
impl<K> PartialOrd for Candidate<K> {
    fn partial_cmp(&self, other: &Candidate<K>) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl<K> Ord for Candidate<K> {
    fn cmp(&self, other: &Candidate<K>) -> Ordering {
        self.rank.cmp(&other.rank)
    }
}

/// A priority queue for many candidates of which few are taken: only the best are kept in a heap, the others
/// lie unsorted until they are needed. Everything in `rest` ranks at or below `cut`, everything in `front` at
/// or above.
pub(crate) struct LazyQueue<K> {
    front: BinaryHeap<Candidate<K>>,
    rest: Vec<Candidate<K>>,
    cut: Score,
    chunk: usize,
}

impl<K: Copy> LazyQueue<K> {
    pub(crate) fn new() -> LazyQueue<K> {
        let cut = Score::new(f32::INFINITY);
        LazyQueue { front: BinaryHeap::new(), rest: Vec::new(), cut, chunk: FIRST_CHUNK }
    }

    pub(crate) fn push(&mut self, candidate: Candidate<K>) {
        if candidate.rank >= self.cut && !self.front.is_empty() {
            self.front.push(candidate);
        } else if self.front.is_empty() {
            self.cut = Score::new(f32::INFINITY);
            self.rest.push(candidate);
        } else {
            self.rest.push(candidate);
        }
    }

    pub(crate) fn peek(&mut self) -> Option<&Candidate<K>> {
        if self.front.is_empty() {
            self.refill();
        }
        self.front.peek()
    }

    /// Returns some hundred of the best or more, roughly best first.
    pub(crate) fn top(&mut self) -> impl Iterator<Item = &Candidate<K>> {
        if self.front.len() < FIRST_CHUNK / 2 {
            self.refill();
        }
        self.front.iter()
    }

    pub(crate) fn pop(&mut self) -> Option<Candidate<K>> {
        if self.front.is_empty() {
            self.refill();
        }
        self.front.pop()
    }

    /// Moves the best of `rest` to `front`.
    fn refill(&mut self) {
        if self.rest.is_empty() {
            return;
        }
        let start = self.rest.len().saturating_sub(self.chunk);
        if start > 0 {
            self.rest.select_nth_unstable(start);
        }
        let lowest = self.rest[start..].iter().map(|candidate| candidate.rank).min();
        self.cut = lowest.unwrap_or(Score::new(f32::INFINITY));
        self.front.extend(self.rest.drain(start..));
        // Without memory for twice as many, as many will do.
        let next = self.chunk.saturating_mul(2);
        if self.front.try_reserve(next.min(self.rest.len())).is_ok() {
            self.chunk = next;
        }
    }

    /// Returns the number of candidates.
    pub(crate) fn len(&self) -> usize {
        self.front.len() + self.rest.len()
    }

    /// Reserves memory for `more` candidates. Returns false if the system refuses.
    pub(crate) fn try_reserve(&mut self, more: usize) -> bool {
        self.rest.try_reserve(more).is_ok() && self.front.try_reserve(more).is_ok()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Candidate<K>> {
        self.front.iter().chain(&self.rest)
    }

    /// Gives every candidate another rank.
    pub(crate) fn rank_again(&mut self, rank: impl Fn(&Candidate<K>) -> Score) {
        self.rest.extend(self.front.drain());
        for candidate in &mut self.rest {
            candidate.rank = rank(candidate);
        }
        self.cut = Score::new(f32::INFINITY);
        self.chunk = FIRST_CHUNK;
    }
}
