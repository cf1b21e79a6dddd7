//! The order in which rows are returned: a state machine between sketch estimates and exact similarities.
//!
//! The caller adds the scored nodes of visited pages and then does what [`Rerank::next_step`] asks for: visit
//! more pages, recompute a batch, or return a row. Candidates are recomputed in the order of their estimates.
//!
//! Rows are returned in groups of [`RerankOptions::expected_rows`]. A group is ready once that many rows were
//! recomputed and the expected number of better ones among the remaining candidates falls below a threshold
//! set by [`RerankOptions::z`]. So LIMIT need not be known: an easy query costs few recomputes, a hard one
//! more. Groups save recomputes because a returned row cannot be called back when a better one turns up, and
//! a query for ten rows recomputes more than ten in any case. Measured at equal recall, waiting for a group
//! takes a fifth fewer recomputes than deciding row by row.
//!
//! Rows of the same text have the same estimate. Once one of them is recomputed, the similarity of the others
//! is known, and they are recomputed only to be returned.
//!
//! The estimates of one query err together, by up to half a standard error. The mean error of its recomputed
//! rows is therefore expected of the others too.
//!
//! Where rows must pass a filter, their candidates are *checked* first ([`Step::Check`]), which costs the
//! fetch of a row and no recompute. So a filter costs hardly a recompute more: rows that fail are out before,
//! and as long as a candidate that was not checked could be better, it is.
//!
//! A bound ([`RerankOptions::min_similarity`]) is decided in the same way as a group: the scan ends once few
//! enough of the remaining candidates are expected to be within it.
//!
//! Once `ef` rows were visited, `ef` doubles and the walk goes on, so that every row is returned in the end.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::hash::Hash;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::candidates::{Candidate, LazyQueue, normal_tail};
use crate::order::Score;
use crate::passing::Passing;
use crate::rerank_options::{LateRows, RerankOptions};

/// Difference of similarities up to which they count as equal: the same text embedded in another batch
/// differs by about as much.
const SIMILARITY_TOLERANCE: f32 = 1e-6;
/// What a late row adds to `z`, because it shows that `z` is too small for this query. More would be wasted
/// where many rows are nearly equal: there rows are late by a hair whatever `z` is.
const Z_STEP: f32 = 0.1;
/// Limit of `z` as late rows raise it.
const MAX_Z: f32 = 2.5;
/// Chance of being better than the last row of a group beyond which a candidate makes the group wait. With
/// many expected rows the sum of chances alone would let a few candidates pass that are known to be better.
const MAX_CHANCE_OF_BETTER: f32 = 0.5;
/// Recomputes in a row that add nothing to a group, times the share of a normal distribution beyond `z`, from
/// which the group is ready whatever the estimates say: 40 at a z of 1.4. Of a text that occurs ten thousand
/// times, all estimates are alike and no row is better.
///
/// Where estimates rank badly, as untrained ones of a model whose embeddings have much in common, this rule
/// ends most searches: there 20 misses find .90 of the ten nearest (xquad) and 40 .94. Elsewhere it ends one
/// in fifty.
///
/// The number does not depend on the size of the group. By the rule of succession, m misses in a row leave a
/// chance of about 1/m that the next row is better; the rows that may still be better are as many as the
/// group is large, and so are those that it may miss.
const MAX_MISSES_AT_TAIL: f32 = 3.2;
/// Recomputes in a row that are not within a bound before the bound ends a scan: whoever looks for copies of
/// a text gives a bound of almost nothing, and an estimate that is off by more than its error must not hide
/// the one row that is searched for.
const MIN_MISSES_OF_BOUND: usize = 4;
/// Candidates that were checked from which a bound ends a scan in any case: few rows pass.
const MAX_CHECKED_FOR_MISSES: usize = 64;
/// Standard errors added to an estimate in the order of recomputing: of equal estimates the less certain one
/// may be the better.
const RANK_OPTIMISM: f32 = 0.5;
/// Prior weight of the mean error of a query's estimates: as if this many recomputes had shown no error.
const BIAS_PRIOR: f32 = 8.0;
/// Chance of being better than the last row of a group from which a candidate is checked before the group is
/// decided, though few rows may pass.
const MIN_CHECKED_CHANCE: f32 = 0.02;
/// Chance of being better than [`RerankOptions::max_similarity`] from which a candidate is passed over.
const CERTAIN: f32 = 0.9995;
/// Rows that passed, as many as are needed up to this, that a batch waits for.
const MAX_WANTED: usize = 16;
/// The fewest and the most candidates that are checked at once.
const CHECKS: std::ops::RangeInclusive<usize> = 4..=256;

/// What the caller has to do next.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Step<K> {
    /// Return this row, which has this exact similarity.
    Emit(K, f32),
    /// Return this row, which follows by this estimate, because `max_recompute` was reached.
    Follow(K, f32),
    /// Call [`Rerank::take_unchecked`] and answer every key with [`Rerank::set_passing`] or
    /// [`Rerank::drop_failing`].
    Check,
    /// Call [`Rerank::take_batch`] and answer every key with [`Rerank::set_exact`] or
    /// [`Rerank::drop_invisible`].
    Recompute,
    /// Visit another page and call [`Rerank::add_page`], or [`Rerank::walk_exhausted`] if there is none.
    Walk,
    /// Every row was returned.
    Done,
}

/// The state of one scan. `K` names a row (a heap pointer).
pub struct Rerank<K> {
    options: RerankOptions,
    /// Candidates; where rows must pass a filter, those that were not checked.
    queue: LazyQueue<K>,
    /// Candidates that passed the filter.
    passing: Passing<K>,
    /// Candidates that were checked.
    checked: usize,
    /// Returned by `take_unchecked` and not answered yet.
    in_check: Vec<Candidate<K>>,
    /// Returned by `take_batch` and not answered yet.
    pending: Vec<Candidate<K>>,
    /// Recomputed and not returned yet: worst first, of equals the latest first.
    exact: Vec<(Score, K)>,
    /// Rows that may be returned before the next decision.
    ready: usize,
    /// The latest consecutive recomputes that did not get into the next group.
    misses: usize,
    /// The sum of what the estimates of recomputed rows were too low by, in standard errors.
    bias_sum: f32,
    /// Keys that were checked, recomputed, dropped, or returned by estimate: found again, they are
    /// duplicates.
    visited: FxHashSet<K>,
    /// Estimates of the visited, which still count among the best `ef`.
    visited_estimates: Vec<f32>,
    /// Exact similarities of recomputed rows by [`Candidate::twins`].
    twins: FxHashMap<(u32, u32), f32>,
    /// The best `ef` estimates, worst on top.
    best: BinaryHeap<Reverse<Score>>,
    /// Consecutive pages without one of the best `ef` estimates.
    fruitless_pages: usize,
    exhausted: bool,
    last_emitted: f32,
    recomputed: usize,
    /// Number of late rows.
    late: u64,
    /// Late rows to return at the end, worst first.
    held_back: Vec<(Score, K)>,
}

impl<K: Copy + Eq + Hash> Rerank<K> {
    /// Starts a scan.
    pub fn new(options: RerankOptions) -> Rerank<K> {
        let options = RerankOptions {
            ef: options.ef.max(1),
            patience: options.patience.max(1),
            expected_rows: options.expected_rows.max(1),
            ..options
        };
        Rerank {
            options,
            queue: LazyQueue::new(),
            passing: Passing::new(),
            checked: 0,
            in_check: Vec::new(),
            pending: Vec::new(),
            exact: Vec::new(),
            ready: 0,
            misses: 0,
            bias_sum: 0.0,
            visited: FxHashSet::default(),
            visited_estimates: Vec::new(),
            twins: FxHashMap::default(),
            best: BinaryHeap::new(),
            fruitless_pages: 0,
            exhausted: false,
            last_emitted: f32::INFINITY,
            recomputed: 0,
            late: 0,
            held_back: Vec::new(),
        }
    }

    /// Adds the nodes of one visited page as (key, estimated similarity, its standard error). Returns whether
    /// one of them is among the best `ef` estimates. A key may be added again with a later page: its row is
    /// returned only once.
    pub fn add_page(&mut self, nodes: impl Iterator<Item = (K, f32, f32)>) -> bool {
        let mut brought = false;
        for (key, similarity, error) in nodes {
            let similarity = Score::new(similarity).get();
            let error = if error.is_finite() { error.max(0.0) } else { 0.0 };
            brought |= self.update_best(similarity);
            let candidate = Candidate { rank: Score::new(0.0), similarity, error, key };
            self.queue.push(Candidate { rank: self.rank(&candidate), ..candidate });
        }
        self.fruitless_pages = if brought { 0 } else { self.fruitless_pages + 1 };
        brought
    }

    /// Reserves memory for a step: a page of `nodes` nodes, or a batch of `batch` recomputes. Call it before
    /// each step. Returns false if the system refuses; then nothing is lost, but the scan can only be
    /// dropped.
    #[must_use]
    pub fn try_reserve(&mut self, nodes: usize, batch: usize) -> bool {
        let checks = if self.options.filtered { *CHECKS.end() } else { 0 };
        self.queue.try_reserve(nodes + self.pending.len() + self.in_check.len())
            && self.passing.try_reserve(checks + self.pending.len())
            && self.visited.try_reserve(batch + checks).is_ok()
            && self.visited_estimates.try_reserve(batch + checks).is_ok()
            && self.twins.try_reserve(batch).is_ok()
            && self.exact.try_reserve(batch).is_ok()
            && self.held_back.try_reserve(batch).is_ok()
            && self.best.try_reserve(nodes).is_ok()
    }

    /// Returns whether the last `patience` pages brought nothing into the best `ef`.
    pub fn walk_satisfied(&self) -> bool {
        self.fruitless_pages >= self.options.patience
    }

    /// Returns the estimate below which a node is not among the best `ef`.
    pub fn floor(&self) -> f32 {
        match self.best.peek() {
            Some(Reverse(worst)) if self.best.len() >= self.options.ef => worst.get(),
            _ => f32::NEG_INFINITY,
        }
    }

    /// Notes that there are no more pages.
    pub fn walk_exhausted(&mut self) {
        self.exhausted = true;
    }

    /// Returns what to do next. Pending keys become candidates again.
    pub fn next_step(&mut self) -> Step<K> {
        for candidate in std::mem::take(&mut self.pending) {
            if self.options.filtered { self.passing.put_back(candidate) } else { self.queue.push(candidate) }
        }
        for candidate in std::mem::take(&mut self.in_check) {
            self.queue.push(candidate);
        }
        if !self.exhausted && !self.walk_satisfied() {
            return Step::Walk;
        }
        if self.capped() { self.next_by_estimate() } else { self.next_exact() }
    }

    /// Returns the next step while recomputes are allowed.
    fn next_exact(&mut self) -> Step<K> {
        let remaining = self.has_candidates();
        if self.ready == 0 && remaining && self.group_is_decided() {
            self.ready = self.options.expected_rows;
            self.misses = 0;
        }
        if self.ready > 0 {
            return self.emit_exact();
        }
        if self.wants_more_pages(remaining) {
            return Step::Walk;
        }
        if !remaining {
            return self.emit_exact();
        }
        if self.must_check() { Step::Check } else { Step::Recompute }
    }

    /// Returns whether candidates are to be checked before the next recompute: the best of them rank before
    /// those that passed, or may be better than the last row of the next group.
    fn must_check(&mut self) -> bool {
        if !self.options.filtered {
            return false;
        }
        let Some(unchecked) = self.best_unchecked() else { return false };
        // Enough for a batch, while many are needed.
        let wanted = self.needed().clamp(1, MAX_WANTED);
        self.passing.iter().filter(|passing| passing.rank >= unchecked).take(wanted).count() < wanted
            || self.may_miss_unchecked()
    }

    /// Returns whether a group's worth of rows was recomputed, and a candidate that was not checked may be
    /// better than the last of them.
    fn may_miss_unchecked(&mut self) -> bool {
        let Some(similarity) = self.needed_similarity() else { return false };
        if self.checked < self.options.min_checks && self.best_unchecked().is_some() {
            return true;
        }
        let bias = self.bias();
        let twins = &self.twins;
        self.queue.top().any(|candidate| chance(twins, candidate, similarity, bias) > MIN_CHECKED_CHANCE)
    }

    /// Returns the similarity that a row needs to get into the next group; None if any will do.
    fn needed_similarity(&self) -> Option<f32> {
        let last = self.exact.len().checked_sub(self.options.expected_rows);
        let last = last.map(|last| self.exact[last].0.get() + SIMILARITY_TOLERANCE);
        let bound = Some(self.options.min_similarity).filter(|bound| *bound > f32::NEG_INFINITY);
        last.into_iter().chain(bound).reduce(f32::max)
    }

    /// Returns how many standard errors estimates are too low by.
    fn bias(&self) -> f32 {
        self.bias_sum / (self.recomputed as f32 + BIAS_PRIOR)
    }

    /// Returns whether few enough of the remaining candidates are expected to be better than the last row of
    /// the next group, or within the bound.
    fn group_is_decided(&mut self) -> bool {
        let Some(similarity) = self.needed_similarity() else { return false };
        let bias = self.bias();
        if self.misses as f32 * normal_tail(self.options.z) >= MAX_MISSES_AT_TAIL {
            return true;
        }
        if self.is_too_early_for_bound(similarity) || self.options.filtered && self.may_miss_unchecked() {
            return false;
        }
        // Where a bound decides, a group is what is within it.
        let rows = self.options.expected_rows.min(self.exact.len()).max(1);
        let allowed = normal_tail(self.options.z) * rows as f32;
        let (mut expected, twins) = (0.0, &self.twins);
        let mut is_allowed = |candidate: &Candidate<K>, share: f32| {
            let chance = chance(twins, candidate, similarity, bias);
            expected += share * chance;
            chance <= MAX_CHANCE_OF_BETTER && expected <= allowed
        };
        let share = if self.options.filtered { self.passing.share() } else { 1.0 };
        self.passing.iter().all(|candidate| is_allowed(candidate, 1.0))
            && self.queue.top().all(|candidate| is_allowed(candidate, share))
    }

    /// Returns whether a bound would end the scan before the best candidates were recomputed.
    fn is_too_early_for_bound(&self, needed: f32) -> bool {
        needed.is_finite()
            && self.exact.len() < self.options.expected_rows
            && self.misses < MIN_MISSES_OF_BOUND
            && self.checked < MAX_CHECKED_FOR_MISSES
    }

    /// Returns the next step beyond `max_recompute`: first the recomputed rows, late ones last, then the
    /// others by estimate.
    fn next_by_estimate(&mut self) -> Step<K> {
        if !self.exact.is_empty() || !self.held_back.is_empty() {
            return self.emit_exact();
        }
        let remaining = self.has_candidates();
        if self.wants_more_pages(remaining) {
            return Step::Walk;
        }
        match self.pop_best() {
            Some(candidate) => {
                self.visit(&candidate);
                Step::Follow(candidate.key, candidate.similarity)
            }
            None => self.emit_held_back(),
        }
    }

    /// Returns how many candidates are best checked at once.
    pub fn checks(&mut self) -> usize {
        let wanted = self.needed().max(1) as f32 / self.passing.share();
        (wanted as usize).clamp(*CHECKS.start(), *CHECKS.end())
    }

    /// Takes the `n` candidates of highest rank that were not checked, or as many as there are.
    pub fn take_unchecked(&mut self, n: usize) -> Vec<K> {
        let mut keys: Vec<K> = Vec::with_capacity(n.min(self.queue.len()));
        while keys.len() < n && self.best_unchecked().is_some() {
            let Some(candidate) = self.queue.pop() else { break };
            if self.in_check.iter().all(|other| other.key != candidate.key) {
                keys.push(candidate.key);
                self.in_check.push(candidate);
            }
        }
        keys
    }

    /// Notes that the row of a key taken by [`Rerank::take_unchecked`] passes the filter. Other keys are
    /// ignored.
    pub fn set_passing(&mut self, key: K) {
        if let Some(candidate) = take(&mut self.in_check, key) {
            self.visit(&candidate);
            self.checked += 1;
            self.passing.pass(candidate);
        }
    }

    /// Drops a key taken by [`Rerank::take_unchecked`] whose row does not pass the filter, or is not visible.
    /// Other keys are ignored.
    pub fn drop_failing(&mut self, key: K) {
        if let Some(candidate) = take(&mut self.in_check, key) {
            self.visit(&candidate);
            self.checked += 1;
            self.passing.fail();
        }
    }

    /// Returns how many rows have to be recomputed before anything can be decided; they may as well be one
    /// batch. Where rows must be within a bound, no more than are expected to be.
    pub fn needed(&mut self) -> usize {
        let needed = self.options.expected_rows.saturating_sub(self.exact.len());
        let bound = self.options.min_similarity;
        if bound == f32::NEG_INFINITY {
            return needed;
        }
        let (bias, twins) = (self.bias(), &self.twins);
        let within = |candidate: &Candidate<K>| chance(twins, candidate, bound, bias);
        let expected: f32 = self
            .passing
            .iter()
            .map(within)
            .chain(self.queue.top().map(within).take_while(|chance| *chance > MIN_CHECKED_CHANCE))
            .take(needed)
            .sum();
        needed.min(expected.ceil() as usize)
    }

    /// Takes the `n` candidates of highest rank, or as many as there are and `max_recompute` allows.
    pub fn take_batch(&mut self, n: usize) -> Vec<K> {
        let n = match self.options.max_recompute {
            0 => n,
            cap => n.min(cap.saturating_sub(self.recomputed + self.pending.len())),
        };
        let mut batch: Vec<K> = Vec::with_capacity(n.min(self.queue.len()));
        while batch.len() < n && self.is_next_for_recompute() {
            let Some(candidate) = self.pop_best() else { break };
            // Twice in one batch: the second one duplicates a key that is about to be visited.
            if self.pending.iter().any(|pending| pending.key == candidate.key) {
                continue;
            }
            batch.push(candidate.key);
            self.pending.push(candidate);
        }
        batch
    }

    /// Returns whether the best candidate can be recomputed: there is one, and it passed the filter.
    fn is_next_for_recompute(&mut self) -> bool {
        let unchecked = self.best_unchecked();
        if !self.options.filtered {
            return unchecked.is_some();
        }
        self.passing.peek().is_some_and(|passing| unchecked.is_none_or(|unchecked| unchecked <= passing.rank))
    }

    /// Returns the estimate of a pending key; None for other keys. Where estimates are exact, it is the exact
    /// similarity.
    pub fn estimate_of(&self, key: K) -> Option<f32> {
        self.pending.iter().find(|candidate| candidate.key == key).map(|candidate| candidate.similarity)
    }

    /// Sets the exact similarity of a pending key. Other keys are ignored.
    pub fn set_exact(&mut self, key: K, similarity: f32) {
        let Some(candidate) = take(&mut self.pending, key) else { return };
        self.visit(&candidate);
        self.recomputed += 1;
        let similarity = Score::new(similarity);
        if candidate.error > 0.0 {
            self.twins.insert(candidate.twins(), similarity.get());
        }
        self.settle_passing();
        self.bias_sum += candidate.errors_off(similarity.get());
        if similarity.get() > self.options.max_similarity {
            return;
        }
        if similarity.get() < self.options.min_similarity {
            self.misses += 1;
            return;
        }
        if similarity.get() > self.last_emitted + SIMILARITY_TOLERANCE {
            self.late += 1;
            if self.options.late_rows != LateRows::AtOnce {
                self.options.z = self.options.z.max((self.options.z + Z_STEP).min(MAX_Z));
            }
            match self.options.late_rows {
                LateRows::Drop => return,
                LateRows::AtEnd => {
                    let at = self.held_back.partition_point(|(other, _)| *other < similarity);
                    self.held_back.insert(at, (similarity, key));
                    return;
                }
                LateRows::AtOnce => {}
            }
        }
        let entered = match self.exact.len().checked_sub(self.options.expected_rows) {
            Some(last) => similarity.get() > self.exact[last].0.get() + SIMILARITY_TOLERANCE,
            None => true,
        };
        self.misses = if entered { 0 } else { self.misses + 1 };
        let at = self.exact.partition_point(|(other, _)| *other < similarity);
        self.exact.insert(at, (similarity, key));
        if self.capped() {
            self.queue.rank_again(|candidate| Score::new(candidate.similarity));
            self.passing.rank_again(|candidate| Score::new(candidate.similarity));
        }
    }

    /// Drops a pending key that has no visible row. Other keys are ignored.
    pub fn drop_invisible(&mut self, key: K) {
        if let Some(candidate) = take(&mut self.pending, key) {
            self.visit(&candidate);
        }
    }

    /// Returns how many rows turned out better than the last one returned.
    pub fn late(&self) -> u64 {
        self.late
    }

    /// Returns whether `max_recompute` was reached.
    fn capped(&self) -> bool {
        self.options.max_recompute > 0 && self.recomputed >= self.options.max_recompute
    }

    /// Returns what a candidate is ordered by.
    fn rank(&self, candidate: &Candidate<K>) -> Score {
        let optimism = if self.capped() { 0.0 } else { RANK_OPTIMISM * candidate.error };
        Score::new(candidate.similarity + optimism)
    }

    /// Counts an estimate among the best `ef` if it is one. Returns whether it is.
    fn update_best(&mut self, similarity: f32) -> bool {
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

    /// Returns whether there is a candidate that was not visited, or that passed and was not recomputed.
    fn has_candidates(&mut self) -> bool {
        self.passing.peek().is_some() || self.best_unchecked().is_some()
    }

    /// Puts rows that passed, and whose similarity is known by now, where they belong.
    fn settle_passing(&mut self) {
        while let Some(candidate) = self.passing.peek().copied() {
            let Some(similarity) = self.twins.get(&candidate.twins()) else { return };
            self.passing.pop();
            self.passing.put_back(candidate.known(*similarity));
        }
    }

    /// Takes the best candidate of all.
    fn pop_best(&mut self) -> Option<Candidate<K>> {
        let unchecked = self.best_unchecked();
        match self.passing.peek() {
            Some(passing) if unchecked.is_none_or(|unchecked| unchecked <= passing.rank) => {
                self.passing.pop()
            }
            _ => self.queue.pop(),
        }
    }

    /// Returns the rank of the best candidate in the queue whose key was not visited before.
    fn best_unchecked(&mut self) -> Option<Score> {
        let most = self.options.max_similarity;
        while let Some(candidate) = self.queue.peek() {
            let candidate = *candidate;
            let Candidate { rank, key, .. } = candidate;
            if !self.visited.contains(&key) {
                if let Some(similarity) = self.twins.get(&candidate.twins()) {
                    self.queue.pop();
                    self.queue.push(candidate.known(*similarity));
                    continue;
                }
                if candidate.chance_beyond(most, 0.0) < CERTAIN {
                    return Some(rank);
                }
                self.visited.insert(key);
            }
            self.queue.pop();
        }
        None
    }

    /// Doubles `ef` if `ef` rows were visited, or no candidate remains, and there may be more pages. Returns
    /// whether.
    fn wants_more_pages(&mut self, remaining: bool) -> bool {
        if self.exhausted || (remaining && self.visited.len() < self.options.ef) {
            return false;
        }
        self.options.ef = self.options.ef.saturating_mul(2);
        self.fruitless_pages = 0;
        let mut estimates: Vec<Score> =
            self.queue.iter().map(|candidate| Score::new(candidate.similarity)).collect();
        estimates.extend(self.visited_estimates.iter().map(|&similarity| Score::new(similarity)));
        if estimates.len() > self.options.ef {
            let start = estimates.len() - self.options.ef;
            estimates.select_nth_unstable(start);
            estimates.drain(..start);
        }
        self.best = estimates.into_iter().map(Reverse).collect();
        true
    }

    /// Marks a candidate's key as visited.
    fn visit(&mut self, candidate: &Candidate<K>) {
        if self.visited.insert(candidate.key) {
            self.visited_estimates.push(candidate.similarity);
        }
    }

    /// Returns the best of the late rows: there are no others.
    fn emit_held_back(&mut self) -> Step<K> {
        match self.held_back.pop() {
            Some((similarity, key)) => Step::Emit(key, similarity.get()),
            None => Step::Done,
        }
    }

    /// Returns the best recomputed row.
    fn emit_exact(&mut self) -> Step<K> {
        let Some((similarity, key)) = self.exact.pop() else { return self.emit_held_back() };
        self.ready = self.ready.saturating_sub(1);
        self.last_emitted = self.last_emitted.min(similarity.get());
        Step::Emit(key, similarity.get())
    }
}

/// Returns the chance that a candidate is better than `similarity`, if estimates are too low by `bias`
/// standard errors.
fn chance<K>(
    twins: &FxHashMap<(u32, u32), f32>,
    candidate: &Candidate<K>,
    similarity: f32,
    bias: f32,
) -> f32 {
    match twins.get(&candidate.twins()) {
        Some(known) => f32::from(*known > similarity),
        None => candidate.chance_beyond(similarity, bias),
    }
}

/// Takes the candidate of a key out of a list.
fn take<K: PartialEq>(candidates: &mut Vec<Candidate<K>>, key: K) -> Option<Candidate<K>> {
    let index = candidates.iter().position(|candidate| candidate.key == key)?;
    Some(candidates.swap_remove(index))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_row_widens_z() {
        let options =
            RerankOptions { z: 1.5, expected_rows: 1, ef: 16, patience: 4, ..RerankOptions::default() };
        let mut rerank = Rerank::new(options);
        rerank.add_page([(1, 0.5, 0.01), (2, 0.4, 0.01)].into_iter());
        rerank.walk_exhausted();
        for (key, similarity) in [(1, 0.5), (2, 0.9)] {
            assert_eq!(rerank.next_step(), Step::Recompute);
            assert_eq!(rerank.take_batch(1), [key]);
            rerank.set_exact(key, similarity);
            if key == 1 {
                assert_eq!(rerank.next_step(), Step::Emit(1, 0.5));
            }
        }
        assert_eq!(rerank.late(), 1);
        assert!(rerank.options.z > options.z);
    }
}
