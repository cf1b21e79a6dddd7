//! A search: walk → sketch estimates → visible rows' text → recompute → rerank (README.md, "Scan"), over one
//! source or several of one model. It does not know what drives it; today an index scan does, in `ordered`.
//!
//! Where an index stores embeddings, estimates are exact and nothing is recomputed.

use super::errors;
use super::source::Source;
use super::stats::ScanStats;
use crate::error::OrRaise;
use crate::model::returned_rows::ReturnedDistance;
use crate::model::{self, Key, Loaded, Reuse};
use crate::pg::filter::Filter;
use crate::pg::heap::RowReader;
use crate::pg::relation::Rel;
use crate::pg::{allocator, interrupts};
use crate::sql::operators;
use crate::value::Embedding;
use leann_graph::{LateRows, Rerank, RerankOptions, Step, Walks};
use leann_page::HeapPointer;
use leann_value::Value;
use leann_vector::exact_squared_distance;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Instant;

/// Rows whose texts are held at once, however many are needed before the next decision.
const MAX_ROWS_AT_ONCE: usize = 64;
/// More nodes than fit on any page.
const MAX_NODES_ON_PAGE: usize = 1024;

/// A row of one of the sources.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RowRef {
    /// Position of the source.
    pub source: usize,
    pub pointer: HeapPointer,
}

/// A row that a search returns.
pub struct Found {
    pub row: RowRef,
    /// The key of the embedding of the row's text, and its distance to the query. None if the row holds a
    /// vector.
    pub distance: Option<(Key, ReturnedDistance)>,
}

/// One search for one query.
pub struct Search {
    sources: Vec<Source>,
    /// The filter of each source's rows.
    filters: Vec<Option<Filter>>,
    walks: Walks,
    rerank: Rerank<RowRef>,
    model: Rc<Loaded>,
    query: Rc<[f32]>,
    /// Rows that are recomputed together.
    batch: usize,
    /// What happens to late rows.
    late_rows: LateRows,
    /// Similarity of the latest row.
    last: f32,
    /// Distances of rows that are read and not returned yet.
    distances: HashMap<RowRef, (Key, f64)>,
    stats: ScanStats,
    /// Rows of each source whose distances were made exact.
    rows_read: Vec<u64>,
}

impl Search {
    /// Starts a search for a vector of unit length. All sources are of this model; each has a filter or none.
    pub fn new(
        sources: Vec<(Source, Option<Filter>)>,
        model: Rc<Loaded>,
        query: Rc<[f32]>,
        options: RerankOptions,
        batch: usize,
    ) -> Search {
        let filtered = sources.iter().any(|(_, filter)| filter.is_some());
        let (sources, filters): (Vec<Source>, _) = sources.into_iter().unzip();
        Search {
            walks: Walks::new(sources.iter().map(Source::walk).collect()),
            rerank: Rerank::new(RerankOptions { filtered, ..options }),
            rows_read: vec![0; sources.len()],
            sources,
            filters,
            model,
            query,
            batch,
            late_rows: options.late_rows,
            last: f32::INFINITY,
            distances: HashMap::new(),
            stats: ScanStats::default(),
        }
    }

    /// Returns the indexes that are searched, and how many rows of each were read.
    pub fn indexes(&self) -> Vec<(Rel, u64)> {
        self.sources.iter().zip(&self.rows_read).map(|(source, rows)| (source.index.rel, *rows)).collect()
    }

    /// Returns what the search has done so far.
    pub fn stats(&self) -> ScanStats {
        ScanStats { late: self.rerank.late(), ..self.stats }
    }

    /// Returns the next row in order of distance. `readers` are those of the sources, in the same order;
    /// `reuse` says where embeddings are looked up and kept.
    pub fn next(&mut self, readers: &mut [RowReader], reuse: Reuse) -> Option<Found> {
        loop {
            if !self.rerank.try_reserve(MAX_NODES_ON_PAGE, self.batch.max(MAX_ROWS_AT_ONCE)) {
                allocator::raise_no_room("the candidates of a search");
            }
            match self.rerank.next_step() {
                Step::Emit(row, similarity) => {
                    self.last = similarity;
                    let distance = self.distances.remove(&row);
                    let distance = distance.map(|(key, squared)| (key, ReturnedDistance::Exact(squared)));
                    return Some(Found { row, distance });
                }
                Step::Follow(row, estimate) => {
                    let distance =
                        self.followers_key(row, readers).map(|key| (key, self.following(estimate)));
                    return Some(Found { row, distance });
                }
                Step::Walk => self.visit_page(),
                Step::Check => self.check(readers),
                Step::Recompute => self.recompute(readers, reuse),
                Step::Done => return None,
            }
        }
    }

    /// Returns the key of the embedding of a row that follows by its estimate; None if the row holds a vector
    /// or the snapshot does not see it.
    fn followers_key(&self, row: RowRef, readers: &mut [RowReader]) -> Option<Key> {
        let mut key = None;
        self.sources[row.source].read_rows(&mut readers[row.source], &[row.pointer], |_, value| {
            if let Some(Embedding(Value::Deferred { text, role, .. })) = &value {
                key = Some(self.model.key(*role, text));
            }
        });
        key
    }

    /// Returns the distance of a row that follows by its estimate: none where rows come in strict order, and
    /// otherwise what is estimated, but not less than that of a row before.
    fn following(&mut self, estimate: f32) -> ReturnedDistance {
        if self.late_rows != LateRows::AtOnce {
            return ReturnedDistance::Unknown;
        }
        self.last = self.last.min(estimate);
        ReturnedDistance::Estimated((2.0 - 2.0 * f64::from(self.last)).max(0.0))
    }

    /// Visits the best node page not visited yet.
    fn visit_page(&mut self) {
        interrupts::check();
        let begin = Instant::now();
        let mut readers: Vec<_> = self.sources.iter().map(Source::hubs).collect();
        let next = self.walks.next(&mut readers);
        if self.walks.out_of_memory() {
            allocator::raise_no_room("the hubs of an index");
        }
        match next {
            Some((source, hub, page, _)) => {
                let floor = self.rerank.floor();
                let rerank = &mut self.rerank;
                let scored =
                    self.sources[source].score_page(page, floor, |nodes| {
                        rerank.add_page(nodes.map(|(pointer, similarity, error)| {
                            (RowRef { source, pointer }, similarity, error)
                        }));
                    });
                match scored {
                    Some(nodes) => {
                        self.stats.pages += 1;
                        self.stats.nodes += nodes as u64;
                    }
                    None => self.walks.read_again(source, hub),
                }
            }
            None => self.rerank.walk_exhausted(),
        }
        self.stats.walk_ms += milliseconds(begin);
    }

    /// Finds out which of the most promising candidates pass the filter.
    fn check(&mut self, readers: &mut [RowReader]) {
        let checks = self.rerank.checks();
        let candidates = self.rerank.take_unchecked(checks);
        self.stats.checked += candidates.len() as u64;
        for (source, pointers) in by_source(candidates) {
            let Some(filter) = self.filters[source] else {
                pointers.iter().for_each(|&pointer| self.rerank.set_passing(RowRef { source, pointer }));
                continue;
            };
            self.sources[source].check_rows(&mut readers[source], filter, &pointers, |pointer, passes| {
                let row = RowRef { source, pointer };
                if passes { self.rerank.set_passing(row) } else { self.rerank.drop_failing(row) }
            });
        }
    }

    /// Makes the distances of the most promising candidates exact.
    fn recompute(&mut self, readers: &mut [RowReader], reuse: Reuse) {
        let rows = self.read_batch(readers);
        let is_stored = |(row, _): &(RowRef, Embedding)| self.sources[row.source].index.sketcher.is_exact();
        let (stored, others): (Vec<_>, Vec<_>) = rows.into_iter().partition(is_stored);
        for (row, value) in stored {
            self.take_stored(row, &value);
        }
        if !others.is_empty() {
            self.recompute_rows(&others, reuse);
        }
    }

    /// Reads the next candidates whose rows the snapshot sees: a whole batch of them, so that all threads
    /// have work even if many rows are dead.
    fn read_batch(&mut self, readers: &mut [RowReader]) -> Vec<(RowRef, Embedding)> {
        let batch = self.batch.max(self.rerank.needed().min(MAX_ROWS_AT_ONCE));
        let mut rows = Vec::with_capacity(batch);
        while rows.len() < batch {
            let candidates = self.rerank.take_batch(batch - rows.len());
            if candidates.is_empty() {
                break;
            }
            self.stats.candidates += candidates.len() as u64;
            for (source, pointers) in by_source(candidates) {
                self.rows_read[source] += pointers.len() as u64;
                self.sources[source].read_rows(&mut readers[source], &pointers, |pointer, value| {
                    let row = RowRef { source, pointer };
                    match value {
                        Some(value) => rows.push((row, value)),
                        None => self.rerank.drop_invisible(row),
                    }
                });
            }
        }
        rows
    }

    fn recompute_rows(&mut self, rows: &[(RowRef, Embedding)], reuse: Reuse) {
        for (row, value) in rows {
            self.require_model(*row, value);
        }
        let values: Vec<&Embedding> = rows.iter().map(|(_, value)| value).collect();
        let before = model::counters();
        let embeddings = self.model.vectors(&values, reuse).or_raise();
        let after = model::counters();
        self.stats.add_model_work(&before, &after);
        model::guard::recomputed(after.recomputes - before.recomputes).or_raise();
        for ((row, value), embedding) in rows.iter().zip(embeddings) {
            let squared = exact_squared_distance(&self.query, &embedding);
            self.remember(*row, value, squared);
            self.rerank.set_exact(*row, operators::similarity(squared) as f32);
        }
    }

    /// Uses the distance to what the index stores as exact. A row that holds its vector is exact to the bit.
    fn take_stored(&mut self, row: RowRef, value: &Embedding) {
        let similarity = match &value.0 {
            Value::Dense(vector) => {
                self.require_model(row, value);
                operators::similarity(exact_squared_distance(&self.query, vector)) as f32
            }
            Value::Deferred { .. } => {
                let Some(similarity) = self.rerank.estimate_of(row) else { return };
                self.remember(row, value, (2.0 - 2.0 * f64::from(similarity)).max(0.0));
                similarity
            }
        };
        self.rerank.set_exact(row, similarity);
    }

    fn remember(&mut self, row: RowRef, value: &Embedding, squared: f64) {
        if let Value::Deferred { text, role, .. } = &value.0 {
            self.distances.insert(row, (self.model.key(*role, text), squared));
        }
    }

    /// Raises an error for a value of another model than the index's.
    fn require_model(&self, row: RowRef, value: &Embedding) {
        if let Some(fault) = errors::foreign_value(self.sources[row.source].index.rel, &self.model, value) {
            fault.raise()
        }
    }
}

/// Returns the rows of each source, in the order of their places.
fn by_source(mut rows: Vec<RowRef>) -> Vec<(usize, Vec<HeapPointer>)> {
    rows.sort_unstable();
    rows.chunk_by(|a, b| a.source == b.source)
        .map(|of_source| (of_source[0].source, of_source.iter().map(|row| row.pointer).collect()))
        .collect()
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}
