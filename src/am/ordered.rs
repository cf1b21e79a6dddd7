//! An ordered index scan, which drives a search over its one index.
//!
//! The scan reads and embeds rows before the executor has asked whether the user may see them. A user who may
//! read the whole table learns nothing by that. For any other user (row security, a view, a SECURITY DEFINER
//! function) the scan is *isolated*: it looks no embedding up and keeps none, so that a row that stays hidden
//! leaves nothing behind.

use super::errors;
use super::index::{Index, embed_values};
use super::search::{RowRef, Search};
use super::similarity_range::SimilarityRange;
use super::source::Source;
use super::stat_indexes;
use super::stats::{self, Published, Question, ScanStats};
use crate::guc::{self, IterativeScan};
use crate::model::returned_rows::LatestRow;
use crate::model::{self, Reuse};
use crate::pg::Rel;
use crate::pg::filter::Filter;
use crate::pg::heap::RowReader;
use crate::pg::rights::Asker;
use crate::value::Embedding;
use leann_graph::{LateRows, RerankOptions};
use leann_page::HeapPointer;
use std::time::{Duration, Instant};

/// The most rows that are decided on together, whatever LIMIT says.
const MAX_GROUP: usize = 1000;

/// What the statement around a scan tells of it.
#[derive(Clone, Copy, Default)]
pub struct Context {
    /// What rows must pass.
    pub filter: Option<Filter>,
    /// Rows that are wanted first.
    pub limit: Option<usize>,
    /// Whether nothing above the scan relies on the order of its rows.
    pub order_is_only_shown: bool,
    /// Similarities that rows are wanted of.
    pub similarities: SimilarityRange,
}

/// One scan for one query.
pub struct OrderedScan {
    search: Search,
    /// What the scan did before its search began: the query's embedding.
    preparation: ScanStats,
    published: Published,
    /// The role that began the scan, and whether it may not read the whole table.
    asker: Asker,
    isolated: bool,
    latest: LatestRow,
    question: Question,
    /// The time that the scan has taken so far.
    busy: Duration,
}

impl OrderedScan {
    /// Starts a scan. Embeds the query in the query role, or takes it as it is if it is a vector.
    pub fn start(index: Index, table: Rel, query: Embedding, context: Context) -> OrderedScan {
        OrderedScan::start_all(vec![(index, table, context)], query, context)
    }

    /// Starts a search over several indexes of one model, at least one: each with its table and what its node
    /// says. `above` is what holds for all of them.
    pub fn start_all(scans: Vec<(Index, Rel, Context)>, query: Embedding, above: Context) -> OrderedScan {
        let (first, model) = (scans[0].0.rel, scans[0].0.model());
        let (asker, before, start) = (Asker::now(), model::counters(), Instant::now());
        let query = embed_values(first, &model, &[query], Reuse::Everywhere).swap_remove(0);
        let mut preparation = ScanStats { scans: scans.len() as u64, ..ScanStats::default() };
        preparation.add_model_time(&before, &model::counters());
        let begin = Instant::now();
        let latest = LatestRow::new(&query);
        let isolated = scans.iter().any(|(_, table, _)| !asker.reads_whole(table.oid()));
        let ranges = scans.iter().map(|(_, _, context)| context.similarities);
        let similarities = ranges.reduce(SimilarityRange::or).unwrap_or_default();
        let sources: Vec<(Source, Option<Filter>)> = scans
            .into_iter()
            .map(|(index, _, context)| (Source::new(index, &query), context.filter))
            .collect();
        let mut options = rerank_options(&sources, Context { similarities, ..above });
        if isolated && similarities != SimilarityRange::all() {
            options.min_checks = MIN_CHECKS;
        }
        let question = Question { group_size: options.expected_rows, bound: similarities.largest_distance() };
        let search = Search::new(sources, model, query, options, guc::recompute_batch());
        preparation.walk_ms += begin.elapsed().as_secs_f64() * 1e3;
        let mut published = Published::default();
        published.update(&preparation);
        stats::note_question(question);
        let busy = start.elapsed();
        OrderedScan { search, preparation, published, asker, isolated, latest, question, busy }
    }

    /// Returns what the scan has done so far.
    fn stats(&self) -> ScanStats {
        self.preparation.plus(&self.search.stats())
    }

    /// Reports a scan that ends: to the counts of its indexes, and to the log if it took long.
    fn report(&self) {
        let stats = self.stats();
        let indexes = self.search.indexes();
        stat_indexes::add(&indexes, &stats);
        let ms = self.busy.as_secs_f64() * 1e3;
        if guc::log_min_duration().is_some_and(|least| ms >= least) {
            let names: Vec<String> = indexes.iter().map(|(index, _)| index.name()).collect();
            errors::log_slow_scan(&names, ms, &stats, self.question);
        }
    }

    /// Returns whether rows are read for a user who may not see all of them.
    pub fn is_isolated(&self) -> bool {
        self.isolated
    }

    /// Returns the next row in order of distance.
    pub fn next(&mut self, reader: &mut RowReader) -> Option<HeapPointer> {
        self.next_of_all(std::slice::from_mut(reader)).map(|row| row.pointer)
    }

    /// Returns the next row of all indexes in order of distance. `readers` are theirs.
    pub fn next_of_all(&mut self, readers: &mut [RowReader]) -> Option<RowRef> {
        let start = Instant::now();
        self.latest.clear();
        let found = self.search.next(readers, self.reuse());
        self.published.update(&self.stats());
        self.busy += start.elapsed();
        let found = found?;
        if let Some((row, distance)) = found.distance {
            self.latest.set(row, distance);
        }
        Some(found.row)
    }

    fn reuse(&self) -> Reuse {
        // Another role may go on with a cursor; nothing of this role's rows may reach its caches.
        if self.isolated || Asker::now() != self.asker { Reuse::Nowhere } else { Reuse::Everywhere }
    }
}

/// The searches of one plan node, one after the other.
#[derive(Default)]
pub struct Searches {
    /// What those that ended did, and what the latest of them was asked for.
    done: ScanStats,
    question: Option<Question>,
}

impl Searches {
    /// Reports and counts a search that ends.
    pub fn end(&mut self, search: &OrderedScan) {
        search.report();
        self.done.add(&search.stats());
        self.question = Some(search.question);
    }

    /// Returns what all have done so far, with the one that runs, and what the latest was asked for.
    #[cfg_attr(not(feature = "pg18"), allow(dead_code, reason = "shown by EXPLAIN from Postgres 18 on"))]
    pub fn figures(&self, running: Option<&OrderedScan>) -> Option<(ScanStats, Question)> {
        match running {
            Some(search) => Some((self.done.plus(&search.stats()), search.question)),
            None => self.question.map(|question| (self.done, question)),
        }
    }
}

/// Candidates that a bounded scan checks in any case for a user who may not see all rows: the bound shall not
/// tell whether a hidden row is within it.
const MIN_CHECKS: usize = 256;

/// Standard errors of confidence of a scan that is bounded by a distance and not by LIMIT: all rows within
/// the bound are wanted.
const BOUNDED_Z: f64 = 2.0;

/// Returns the session's settings for a search of these indexes.
fn rerank_options(sources: &[(Source, Option<Filter>)], context: Context) -> RerankOptions {
    let blocks = sources.iter().map(|(source, _)| source.index.blocks_in_use()).sum();
    // Rows of an index that stores embeddings cost nothing, and estimates in 16 bits are a little off.
    let least = if sources.iter().all(|(source, _)| source.index.sketcher.is_exact()) {
        guc::expected_rows()
    } else {
        1
    };
    let expected_rows =
        context.limit.map_or_else(guc::expected_rows, |limit| limit.min(MAX_GROUP).max(least));
    let all_within = context.limit.is_none() && context.similarities.least > f32::NEG_INFINITY;
    let z = guc::rerank_z().max(if all_within { BOUNDED_Z } else { f64::NEG_INFINITY });
    let strangeness = sources.iter().map(|(source, _)| source.strangeness()).fold(1.0, f32::max);
    RerankOptions {
        z: z as f32,
        expected_rows,
        max_recompute: guc::max_recompute(),
        late_rows: match guc::iterative_scan() {
            IterativeScan::RelaxedOrder => LateRows::AtOnce,
            IterativeScan::StrictOrder if context.order_is_only_shown => LateRows::AtEnd,
            IterativeScan::StrictOrder => LateRows::Drop,
        },
        ef: guc::ef_search(),
        patience: guc::patience(blocks, strangeness),
        min_similarity: context.similarities.least,
        max_similarity: context.similarities.most,
        ..RerankOptions::default()
    }
}
