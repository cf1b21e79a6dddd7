//! In which order rows come out: a state machine between sketch estimates and exact similarities.
//!
//! The caller adds the scored nodes of visited pages and then does what [`Rerank::next_step`] asks for: visit more
//! pages, recompute a batch, or return a row. Candidates are recomputed in the order of their estimates. Rows go out
//! in groups of `horizon`: once that many were recomputed, and the candidates that remain are expected to hold less than
//! a small share of a group of rows better than the last of it ([`RerankOptions::z`]). So nobody needs to know how many
//! rows are wanted: an easy query costs few recomputes, a hard one more. The group is what makes it cheap: a row that
//! went out cannot be called back when a better one turns up, and a query for ten rows recomputes more than ten in
//! any case. Measured at equal recall, waiting for a group takes a fifth fewer recomputes than deciding row by row.
//!
//! Estimates of one query err together, by up to half a standard error: what its recomputed rows were off on average
//! is expected of the others too.
//!
//! Once as many rows were consumed as `ef`, `ef` doubles and the walk goes on; every row comes out in the end.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::hash::Hash;

use crate::hash::FastSet;
use crate::order::Score;

/// Similarities nearer than this are equal: the same text embedded in another batch differs by about as much.
const SAME: f32 = 1e-6;
/// A late row shows that `z` is too small for this query: it then grows by this much, up to `Z_MAX`. More would be wasted
/// where many rows are nearly equal: there rows are late by a hair whatever `z` is.
const Z_STEP: f32 = 0.1;
const Z_MAX: f32 = 2.5;
/// A group waits for any candidate that is better than its last row with a greater chance than this. With a long horizon
/// the sum alone would let a few rows pass that are known to be better.
const LIKELY: f32 = 0.5;
/// After m recomputes in a row that found nothing for the group, the next so many are expected to find `FRUITLESS / m`
/// (rule of succession), whatever the estimates say. Of a text that is there ten thousand times, all are estimated alike
/// and none is better.
const FRUITLESS: f32 = 16.0;
/// Optimism in the order of recomputing: at equal estimates the less certain one may be the better.
const ORDER_Z: f32 = 0.5;
/// The mean error of a query's estimates counts as if so many recomputes had found none.
const BIAS_PRIOR: f32 = 8.0;
/// Candidates put in order at first; doubles every time that more are needed.
const FIRST_CHUNK: usize = 256;

/// Settings of one scan.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct RerankOptions {
    /// A group goes out once the candidates that remain are expected to hold less than `horizon` times the share of a normal
    /// distribution beyond `z` of rows that belong into it: 1.6 allows 5.5 % at worst. Smaller, also negative: fewer
    /// recomputes, more late rows.
    pub z: f32,
    /// Rows that are decided on together, at least 1. A query for fewer rows pays for so many; one for more goes in steps.
    pub horizon: usize,
    /// Recomputes after which rows follow by estimate; 0 is no limit.
    pub max_recompute: usize,
    /// Rows that turn out better than the last emitted one are emitted all the same.
    pub relaxed: bool,
    /// Estimates that the walk tries to find the best of.
    pub ef: usize,
    /// The walk is satisfied after this many pages in a row without one of the best `ef`.
    pub patience: usize,
}

/// What the caller has to do next.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Step<K> {
    /// Return this row. Its exact similarity, or None if it follows by estimate (`max_recompute` was reached).
    Emit(K, Option<f32>),
    /// Call [`Rerank::take_batch`] and answer every key with [`Rerank::give`] or [`Rerank::drop_invisible`].
    Recompute,
    /// Visit another page and call [`Rerank::add_page`], or [`Rerank::walk_exhausted`] when there is none.
    Walk,
    /// Every row came out.
    Done,
}

/// What a scan did so far.
#[derive(Clone, Copy, PartialEq, Default, Debug)]
pub struct Counters {
    pub pages: u64,
    /// Nodes added, duplicates included.
    pub scored: u64,
    pub recomputed: u64,
    pub invisible: u64,
    pub emitted: u64,
    /// Rows that turned out better than the last emitted one: lost in strict order, out of order in relaxed.
    pub late: u64,
    /// Nodes met again under a key that was consumed before.
    pub duplicates: u64,
}

/// A node that was scored and not yet consumed.
#[derive(Clone, Copy)]
struct Candidate<K> {
    /// What the queue is ordered by: the somewhat optimistic estimate, or the plain one beyond `max_recompute`.
    rank: Score,
    similarity: f32,
    error: f32,
    key: K,
}

impl<K> Candidate<K> {
    /// The chance that its row is better than this, for estimates that are too low by `bias` standard errors.
    fn chance_beyond(&self, similarity: f32, bias: f32) -> f32 {
        let behind = similarity - self.similarity;
        if self.error > 0.0 { normal_tail(behind / self.error - bias) } else { f32::from(behind < 0.0) }
    }

    /// By how many standard errors the estimate was too low. Bounded: one freak row must not outweigh the others.
    fn errors_off(&self, similarity: f32) -> f32 {
        if self.error > 0.0 { ((similarity - self.similarity) / self.error).clamp(-4.0, 4.0) } else { 0.0 }
    }
}

/// The chance that a normal variable exceeds its mean by more than `z` standard deviations, to 2e-4 (Bowling et al.,
/// "A logistic approximation to the cumulative normal distribution", JIEM 2009).
fn normal_tail(z: f32) -> f32 {
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

/// A priority queue for many candidates of which few are taken: only the best are kept as a heap, the others lie
/// unsorted until they are needed. Everything in `rest` ranks at or below `cut`, everything in `front` at or above.
struct LazyQueue<K> {
    front: BinaryHeap<Candidate<K>>,
    rest: Vec<Candidate<K>>,
    cut: Score,
    chunk: usize,
}

impl<K: Copy> LazyQueue<K> {
    fn new() -> LazyQueue<K> {
        let cut = Score::new(f32::INFINITY);
        LazyQueue { front: BinaryHeap::new(), rest: Vec::new(), cut, chunk: FIRST_CHUNK }
    }

    fn push(&mut self, candidate: Candidate<K>) {
        if candidate.rank >= self.cut && !self.front.is_empty() {
            self.front.push(candidate);
        } else if self.front.is_empty() {
            self.cut = Score::new(f32::INFINITY);
            self.rest.push(candidate);
        } else {
            self.rest.push(candidate);
        }
    }

    fn peek(&mut self) -> Option<&Candidate<K>> {
        if self.front.is_empty() {
            self.refill();
        }
        self.front.peek()
    }

    /// Some hundred of the best, roughly best first.
    fn top(&mut self) -> impl Iterator<Item = &Candidate<K>> {
        if self.front.len() < FIRST_CHUNK / 2 {
            self.refill();
        }
        self.front.iter().take(FIRST_CHUNK)
    }

    fn pop(&mut self) -> Option<Candidate<K>> {
        if self.front.is_empty() {
            self.refill();
        }
        self.front.pop()
    }

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
        // Where the system grants no room for twice as many, as many will do.
        let next = self.chunk.saturating_mul(2);
        if self.front.try_reserve(next.min(self.rest.len())).is_ok() {
            self.chunk = next;
        }
    }

    fn iter(&self) -> impl Iterator<Item = &Candidate<K>> {
        self.front.iter().chain(&self.rest)
    }

    fn rank_again(&mut self, rank: impl Fn(&Candidate<K>) -> Score) {
        self.rest.extend(self.front.drain());
        for candidate in &mut self.rest {
            candidate.rank = rank(candidate);
        }
        self.cut = Score::new(f32::INFINITY);
        self.chunk = FIRST_CHUNK;
    }
}

/// The state of one scan. `K` names a row (a heap pointer).
pub struct Rerank<K> {
    options: RerankOptions,
    queue: LazyQueue<K>,
    /// Given out by `take_batch` and not answered yet.
    asked: Vec<Candidate<K>>,
    /// Recomputed and not emitted yet: worst first, among equals the latest first.
    exact: Vec<(Score, K)>,
    /// Rows that may go out before the next decision.
    cleared: usize,
    /// The latest recomputes that did not get into the next group.
    fruitless: usize,
    /// The sum, over the recomputed, of what estimates were too low by, in standard errors.
    bias_sum: f32,
    /// Keys that were recomputed, dropped, or emitted by estimate: met again, they are duplicates.
    consumed: FastSet<K>,
    /// Estimates of the consumed, which still count among the best `ef`.
    consumed_estimates: Vec<f32>,
    /// The best `ef` estimates, worst on top.
    best: BinaryHeap<Reverse<Score>>,
    pages_without: usize,
    exhausted: bool,
    last_emitted: f32,
    counters: Counters,
}

impl<K: Copy + Eq + Hash> Rerank<K> {
    pub fn new(options: RerankOptions) -> Rerank<K> {
        let options = RerankOptions {
            ef: options.ef.max(1),
            patience: options.patience.max(1),
            horizon: options.horizon.max(1),
            ..options
        };
        Rerank {
            options,
            queue: LazyQueue::new(),
            asked: Vec::new(),
            exact: Vec::new(),
            cleared: 0,
            fruitless: 0,
            bias_sum: 0.0,
            consumed: FastSet::default(),
            consumed_estimates: Vec::new(),
            best: BinaryHeap::new(),
            pages_without: 0,
            exhausted: false,
            last_emitted: f32::INFINITY,
            counters: Counters::default(),
        }
    }

    /// Takes in the nodes of one visited page as (key, estimated similarity, its standard error). True if one of them
    /// is among the best `ef` estimates. A key may come again on a later page: it still comes out only once.
    pub fn add_page(&mut self, nodes: impl Iterator<Item = (K, f32, f32)>) -> bool {
        let mut brought = false;
        for (key, similarity, error) in nodes {
            let similarity = Score::new(similarity).get();
            let error = if error.is_finite() { error.max(0.0) } else { 0.0 };
            brought |= self.offer(similarity);
            self.counters.scored += 1;
            let candidate = Candidate { rank: Score::new(0.0), similarity, error, key };
            self.queue.push(Candidate { rank: self.rank(&candidate), ..candidate });
        }
        self.counters.pages += 1;
        self.pages_without = if brought { 0 } else { self.pages_without + 1 };
        brought
    }

    /// Makes room for a step: a page of `nodes` nodes, or a batch of `batch` recomputes. False if the system refuses the memory; then
    /// nothing is lost, and the scan can only be ended. To be called before each step.
    #[must_use]
    pub fn make_room(&mut self, nodes: usize, batch: usize) -> bool {
        self.queue.rest.try_reserve(nodes + self.asked.len()).is_ok()
            && self.queue.front.try_reserve(nodes).is_ok()
            && self.consumed.try_reserve(batch).is_ok()
            && self.consumed_estimates.try_reserve(batch).is_ok()
            && self.exact.try_reserve(batch).is_ok()
            && self.best.try_reserve(nodes).is_ok()
    }

    /// `patience` pages in a row brought nothing into the best `ef`.
    pub fn walk_satisfied(&self) -> bool {
        self.pages_without >= self.options.patience
    }

    /// Nodes below this are not among the best `ef`.
    pub fn floor(&self) -> f32 {
        match self.best.peek() {
            Some(Reverse(worst)) if self.best.len() >= self.options.ef => worst.get(),
            _ => f32::NEG_INFINITY,
        }
    }

    /// There are no more pages.
    pub fn walk_exhausted(&mut self) {
        self.exhausted = true;
    }

    /// What to do next. Keys of a batch that were not answered go back among the candidates.
    pub fn next_step(&mut self) -> Step<K> {
        for candidate in std::mem::take(&mut self.asked) {
            self.queue.push(candidate);
        }
        if !self.exhausted && !self.walk_satisfied() {
            return Step::Walk;
        }
        if self.capped() { self.next_by_estimate() } else { self.next_exact() }
    }

    fn next_exact(&mut self) -> Step<K> {
        let remaining = self.best_remaining().is_some();
        if self.cleared == 0 && remaining && self.group_is_decided() {
            self.cleared = self.options.horizon;
            self.fruitless = 0;
        }
        if self.cleared > 0 {
            return self.emit_exact();
        }
        if self.wants_more_pages(remaining) {
            return Step::Walk;
        }
        if remaining { Step::Recompute } else { self.emit_exact() }
    }

    /// Few enough of the candidates that remain are expected to be better than the last row of the next group.
    fn group_is_decided(&mut self) -> bool {
        let Some(last) = self.exact.len().checked_sub(self.options.horizon) else { return false };
        let similarity = self.exact[last].0.get() + SAME;
        let bias = self.bias_sum / (self.counters.recomputed as f32 + BIAS_PRIOR);
        let allowed = normal_tail(self.options.z) * self.options.horizon as f32;
        if self.fruitless as f32 * allowed >= FRUITLESS {
            return true;
        }
        let mut expected = 0.0;
        self.queue.top().all(|candidate| {
            let chance = candidate.chance_beyond(similarity, bias);
            expected += chance;
            chance <= LIKELY && expected <= allowed
        })
    }

    /// Beyond `max_recompute`: first what was recomputed, then the others by estimate.
    fn next_by_estimate(&mut self) -> Step<K> {
        if !self.exact.is_empty() {
            return self.emit_exact();
        }
        let remaining = self.best_remaining().is_some();
        if self.wants_more_pages(remaining) {
            return Step::Walk;
        }
        match self.queue.pop() {
            Some(candidate) => {
                self.consume(&candidate);
                self.counters.emitted += 1;
                Step::Emit(candidate.key, None)
            }
            None => Step::Done,
        }
    }

    /// Rows that have to be recomputed before anything can be decided: they may as well be asked for at once.
    pub fn needed(&self) -> usize {
        self.options.horizon.saturating_sub(self.exact.len())
    }

    /// The `n` most optimistic candidates, or as many as there are and `max_recompute` allows.
    pub fn take_batch(&mut self, n: usize) -> Vec<K> {
        let n = match self.options.max_recompute {
            0 => n,
            cap => n.min(cap.saturating_sub(self.counters.recomputed as usize + self.asked.len())),
        };
        let mut batch: Vec<K> = Vec::with_capacity(n.min(self.queue.front.len() + self.queue.rest.len()));
        while batch.len() < n && self.best_remaining().is_some() {
            let Some(candidate) = self.queue.pop() else { break };
            // Twice in one batch: the second one is a duplicate of a key that is about to be consumed.
            if self.asked.iter().any(|asked| asked.key == candidate.key) {
                self.counters.duplicates += 1;
                continue;
            }
            batch.push(candidate.key);
            self.asked.push(candidate);
        }
        batch
    }

    /// The estimate for a key of the last batch; None for other keys. Where estimates are exact it is what to give.
    pub fn estimate_of(&self, key: K) -> Option<f32> {
        self.asked.iter().find(|candidate| candidate.key == key).map(|candidate| candidate.similarity)
    }

    /// The exact similarity of a key of the last batch. Other keys are ignored.
    pub fn give(&mut self, key: K, similarity: f32) {
        let Some(candidate) = self.answered(key) else { return };
        self.consume(&candidate);
        self.counters.recomputed += 1;
        let similarity = Score::new(similarity);
        self.bias_sum += candidate.errors_off(similarity.get());
        if similarity.get() > self.last_emitted + SAME {
            self.counters.late += 1;
            if !self.options.relaxed {
                self.options.z = self.options.z.max((self.options.z + Z_STEP).min(Z_MAX));
                return;
            }
        }
        let entered = match self.exact.len().checked_sub(self.options.horizon) {
            Some(last) => similarity.get() > self.exact[last].0.get() + SAME,
            None => true,
        };
        self.fruitless = if entered { 0 } else { self.fruitless + 1 };
        let at = self.exact.partition_point(|(other, _)| *other < similarity);
        self.exact.insert(at, (similarity, key));
        if self.capped() {
            self.queue.rank_again(|candidate| Score::new(candidate.similarity));
        }
    }

    /// A key of the last batch has no visible row. Other keys are ignored.
    pub fn drop_invisible(&mut self, key: K) {
        if let Some(candidate) = self.answered(key) {
            self.consume(&candidate);
            self.counters.invisible += 1;
        }
    }

    /// Rows that turned out better than the last emitted one.
    pub fn late(&self) -> u64 {
        self.counters.late
    }

    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// `ef` as it is by now.
    pub fn ef(&self) -> usize {
        self.options.ef
    }

    /// `z` as it is by now.
    pub fn z(&self) -> f32 {
        self.options.z
    }

    fn capped(&self) -> bool {
        self.options.max_recompute > 0 && self.counters.recomputed >= self.options.max_recompute as u64
    }

    fn rank(&self, candidate: &Candidate<K>) -> Score {
        let optimism = if self.capped() { 0.0 } else { ORDER_Z * candidate.error };
        Score::new(candidate.similarity + optimism)
    }

    /// Counts an estimate among the best `ef` if it is one.
    fn offer(&mut self, similarity: f32) -> bool {
        let score = Score::new(similarity);
        if self.best.len() < self.options.ef {
            self.best.push(Reverse(score));
            return true;
        }
        match self.best.peek_mut() {
            Some(mut worst) if score > worst.0 => {
                *worst = Reverse(score);
                true
            }
            _ => false,
        }
    }

    /// The rank of the best candidate that was not consumed under its key before.
    fn best_remaining(&mut self) -> Option<Score> {
        while let Some(candidate) = self.queue.peek() {
            let (rank, key) = (candidate.rank, candidate.key);
            if !self.consumed.contains(&key) {
                return Some(rank);
            }
            self.queue.pop();
            self.counters.duplicates += 1;
        }
        None
    }

    /// As many rows were consumed as `ef`, or there is nothing left to consume: doubles `ef` if there may be more pages.
    fn wants_more_pages(&mut self, remaining: bool) -> bool {
        if self.exhausted || (remaining && self.consumed.len() < self.options.ef) {
            return false;
        }
        self.options.ef = self.options.ef.saturating_mul(2);
        self.pages_without = 0;
        let mut estimates: Vec<Score> =
            self.queue.iter().map(|candidate| Score::new(candidate.similarity)).collect();
        estimates.extend(self.consumed_estimates.iter().map(|&similarity| Score::new(similarity)));
        if estimates.len() > self.options.ef {
            let start = estimates.len() - self.options.ef;
            estimates.select_nth_unstable(start);
            estimates.drain(..start);
        }
        self.best = estimates.into_iter().map(Reverse).collect();
        true
    }

    fn answered(&mut self, key: K) -> Option<Candidate<K>> {
        let index = self.asked.iter().position(|candidate| candidate.key == key)?;
        Some(self.asked.swap_remove(index))
    }

    fn consume(&mut self, candidate: &Candidate<K>) {
        self.consumed.insert(candidate.key);
        self.consumed_estimates.push(candidate.similarity);
    }

    fn emit_exact(&mut self) -> Step<K> {
        let Some((similarity, key)) = self.exact.pop() else { return Step::Done };
        self.cleared = self.cleared.saturating_sub(1);
        self.last_emitted = self.last_emitted.min(similarity.get());
        self.counters.emitted += 1;
        Step::Emit(key, Some(similarity.get()))
    }
}
