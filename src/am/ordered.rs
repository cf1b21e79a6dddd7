//! An ordered scan: walk → sketch estimates → visible rows' text → recompute → rerank → emit (am/README.md, "Scan").
//! Where the index stores embeddings, estimates are exact and nothing is recomputed; all else is the same.
//!
//! Rows are looked up and embedded before the executor has asked whether the user may see them. Who may read the whole
//! table learns nothing by that. For anybody else (row security, a view, a SECURITY DEFINER function) the scan is *isolated*:
//! what it embeds is found nowhere and kept nowhere, so that a row that stays hidden leaves nothing behind.

use super::errors;
use super::hubs::{self, SEARCH_BEAM};
use super::index::{Index, embed_values};
use super::insert::{parse_nodes, read_node_page};
use crate::error::OrRaise;
use crate::guc::{self, IterativeScan};
use crate::model::known::Distances;
use crate::model::{self, Key, Loaded, Reuse};
use crate::pg::rights::Asker;
use crate::pg::rows::RowReader;
use crate::pg::{Access, Rel, interrupts, memory};
use crate::sql::embedding::Embedding;
use crate::sql::operators;
use crate::stats::{Published, ScanStats};
use leann_graph::{HubMetric, HubWalk, NodePageRef, Rerank, RerankOptions, Step};
use leann_page::HeapPointer;
use leann_sketch::{Estimate, SketchQuery};
use leann_value::Value;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Instant;

/// Rows whose texts are held at once, however many are needed before the next decision.
const MOST_AT_ONCE: usize = 64;
/// More nodes than fit on any page.
const MOST_NODES: usize = 1024;

/// One scan for one query.
pub struct OrderedScan {
    index: Index,
    model: Rc<Loaded>,
    query: Rc<[f32]>,
    sketch_query: SketchQuery,
    walk: HubWalk,
    rerank: Rerank<HeapPointer>,
    batch: usize,
    stats: ScanStats,
    published: Published,
    /// Reused for the estimates of one page.
    estimates: Vec<Estimate>,
    /// Who began the scan, and whether he may not read the whole table.
    asker: Asker,
    isolated: bool,
    returned: Returned,
}

/// What a scan knows of the rows that it is about to return.
struct Returned {
    known: Distances,
    /// Of rows that are looked up and not returned yet: what names the text's embedding, and the square of its distance.
    waiting: HashMap<HeapPointer, (Key, f64)>,
}

impl Returned {
    fn new(query: &[f32]) -> Returned {
        Returned { known: Distances::new(query), waiting: HashMap::new() }
    }

    fn will_return(&mut self, pointer: HeapPointer, row: Key, squared: f64) {
        self.waiting.insert(pointer, (row, squared));
    }

    /// This row is returned now.
    fn returns(&mut self, pointer: HeapPointer) {
        if let Some((row, squared)) = self.waiting.remove(&pointer) {
            self.known.returned(row, squared);
        }
    }
}

impl OrderedScan {
    /// Embeds the query in the query role, or takes it as it is if it is a vector.
    pub fn start(index: Index, table: Rel, query: Embedding) -> OrderedScan {
        let model = index.model();
        let (asker, before) = (Asker::now(), model::counters());
        let query = embed_values(index.rel, &model, &[query], Reuse::Everywhere).swap_remove(0);
        let mut stats = ScanStats { scans: 1, ..ScanStats::default() };
        stats.add_model_time(&before, &model::counters());
        let begin = Instant::now();
        let sketch_query = index.sketcher.query(&query);
        let centre_len = index.meta.centre_len as usize;
        let target = sketch_query.projected()[..centre_len].to_vec();
        let rerank = Rerank::new(RerankOptions {
            z: guc::rerank_z() as f32,
            horizon: guc::expected_rows(),
            max_recompute: guc::max_recompute(),
            relaxed: guc::iterative_scan() == IterativeScan::RelaxedOrder,
            ef: guc::ef_search(),
            patience: guc::patience(index.blocks_in_use()),
        });
        stats.walk_ms += milliseconds(begin);
        let mut published = Published::default();
        published.update(&stats);
        OrderedScan {
            isolated: !asker.reads_whole(table.oid()),
            asker,
            returned: Returned::new(&query),
            walk: HubWalk::new(target, HubMetric::Search, SEARCH_BEAM),
            batch: guc::recompute_batch(),
            index,
            model,
            query,
            sketch_query,
            rerank,
            stats,
            published,
            estimates: Vec::new(),
        }
    }

    /// Whether rows are read for a user who may not see all of them.
    pub fn is_isolated(&self) -> bool {
        self.isolated
    }

    /// The next row in order of distance.
    pub fn next(&mut self, reader: &mut RowReader) -> Option<HeapPointer> {
        self.returned.known.forget();
        let next = loop {
            if !self.rerank.make_room(MOST_NODES, self.batch.max(MOST_AT_ONCE)) {
                memory::raise_no_room("the candidates of a search");
            }
            match self.rerank.next_step() {
                Step::Emit(pointer, _) => {
                    self.returned.returns(pointer);
                    break Some(pointer);
                }
                Step::Walk => self.visit_page(),
                Step::Recompute => self.recompute(reader),
                Step::Done => break None,
            }
        };
        self.stats.late = self.rerank.late();
        self.published.update(&self.stats);
        next
    }

    /// Visits the best node page not visited yet: scores all its nodes.
    fn visit_page(&mut self) {
        interrupts::check();
        let begin = Instant::now();
        match hubs::next_page(&mut self.walk, &self.index) {
            Some((at, page, _)) => {
                if !self.score_page(page) {
                    self.walk.read_again(at);
                }
            }
            None => self.rerank.walk_exhausted(),
        }
        self.stats.walk_ms += milliseconds(begin);
    }

    /// False if the page is no longer the one that its hub spoke of.
    fn score_page(&mut self, page: NodePageRef) -> bool {
        let Some(guard) = read_node_page(&self.index, page, Access::Share) else { return false };
        let nodes = parse_nodes(&self.index, &guard);
        self.estimates.clear();
        self.sketch_query.score_above(self.rerank.floor(), nodes.sketches(), &mut self.estimates);
        let scored =
            nodes.heap_pointers().zip(&self.estimates).map(|(pointer, e)| (pointer, e.similarity, e.error));
        self.rerank.add_page(scored);
        self.stats.pages += 1;
        self.stats.nodes += nodes.count() as u64;
        true
    }

    /// Recomputes the most optimistic candidates whose rows the snapshot sees.
    fn recompute(&mut self, reader: &mut RowReader) {
        let (pointers, values) = self.read_batch(reader);
        if values.is_empty() {
            return;
        }
        if self.index.sketcher.is_exact() {
            self.give_stored(&pointers, &values);
        } else {
            self.give_recomputed(&pointers, &values);
        }
    }

    /// The next candidates whose rows the snapshot sees: a whole batch of them, so that all threads have work even where
    /// many rows are dead.
    fn read_batch(&mut self, reader: &mut RowReader) -> (Vec<HeapPointer>, Vec<Embedding>) {
        let batch = self.batch.max(self.rerank.needed().min(MOST_AT_ONCE));
        let mut pointers = Vec::with_capacity(batch);
        let mut values = Vec::with_capacity(batch);
        let _surroundings = reader.surroundings();
        while values.len() < batch {
            let mut asked = self.rerank.take_batch(batch - values.len());
            if asked.is_empty() {
                break;
            }
            self.stats.candidates += asked.len() as u64;
            asked.sort_unstable();
            if let Some(&bad) = asked.iter().find(|&&pointer| !reader.in_table(pointer)) {
                errors::raise_bad_pointer(&self.index.rel.name(), bad);
            }
            reader.prefetch(&asked);
            for pointer in asked {
                match reader.read(pointer) {
                    Some(value) => {
                        pointers.push(pointer);
                        values.push(value);
                    }
                    None => self.rerank.drop_invisible(pointer),
                }
            }
            reader.release_row();
            interrupts::check();
        }
        (pointers, values)
    }

    fn give_recomputed(&mut self, pointers: &[HeapPointer], values: &[Embedding]) {
        let before = model::counters();
        let embeddings = embed_values(self.index.rel, &self.model, values, self.reuse());
        let after = model::counters();
        self.stats.add_model_work(&before, &after);
        model::guard::recomputed(after.recomputes - before.recomputes).or_raise();
        for ((&pointer, value), embedding) in pointers.iter().zip(values).zip(embeddings) {
            let squared = operators::squared_distance(&self.query, &embedding);
            if let Value::Deferred { text, role, .. } = &value.0 {
                self.returned.will_return(pointer, self.model.key(*role, text), squared);
            }
            self.rerank.give(pointer, operators::similarity(squared) as f32);
        }
    }

    fn reuse(&self) -> Reuse {
        // Whoever goes on with the cursor of another role finds nothing of its rows in his caches.
        if self.isolated || Asker::now() != self.asker { Reuse::Nowhere } else { Reuse::Everywhere }
    }

    /// What the index stores is taken for exact; a row that holds its vector itself is exact to the bit.
    fn give_stored(&mut self, pointers: &[HeapPointer], values: &[Embedding]) {
        for (&pointer, value) in pointers.iter().zip(values) {
            let similarity = match &value.0 {
                Value::Dense(_) => {
                    let value = std::slice::from_ref(value);
                    let vector = embed_values(self.index.rel, &self.model, value, Reuse::Nowhere);
                    operators::similarity(operators::squared_distance(&self.query, &vector[0])) as f32
                }
                Value::Deferred { text, role, .. } => {
                    let Some(similarity) = self.rerank.estimate_of(pointer) else { continue };
                    let squared = 2.0 - 2.0 * f64::from(similarity);
                    self.returned.will_return(pointer, self.model.key(*role, text), squared.max(0.0));
                    similarity
                }
            };
            self.rerank.give(pointer, similarity);
        }
    }
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}
