//! An ordered scan: walk → sketch estimates → visible rows' text → recompute → rerank → emit (am/README.md, "Scan").
//! Where the index stores embeddings, estimates are exact and nothing is recomputed; all else is the same.

use super::errors;
use super::hubs::{self, SEARCH_BEAM};
use super::index::{Index, corrupted, embed_values};
use super::insert::parse_nodes;
use crate::guc::{self, IterativeScan};
use crate::model::known::Distances;
use crate::model::{self, Key, Loaded};
use crate::pg::rows::RowReader;
use crate::pg::{Access, PageGuard, interrupts, memory};
use crate::sql::embedding::Embedding;
use crate::sql::operators;
use crate::stats::{self, ScanStats};
use leann_graph::{HubMetric, HubWalk, NodePageRef, Rerank, RerankOptions, Step};
use leann_page::{HeapPointer, PageKind, kind};
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
    /// Reused for the estimates of one page.
    estimates: Vec<Estimate>,
    /// Only where the index stores embeddings.
    stored: Option<Stored>,
}

/// What a scan of an index that stores embeddings keeps of rows until it returns them.
struct Stored {
    known: Distances,
    /// Of rows that are looked up and not returned yet: what names the text's embedding, and the square of its distance.
    waiting: HashMap<HeapPointer, (Key, f64)>,
}

impl Stored {
    fn new(query: &[f32]) -> Stored {
        Stored { known: Distances::new(query), waiting: HashMap::new() }
    }

    /// The row is about to be returned.
    fn returned(&mut self, pointer: HeapPointer) {
        if let Some((row, squared)) = self.waiting.remove(&pointer) {
            self.known.add(row, squared);
        }
    }
}

impl OrderedScan {
    /// Embeds the query in the query role, or takes it as it is if it is a vector.
    pub fn start(index: Index, query: Embedding) -> OrderedScan {
        let model = index.model();
        let before = model::counters();
        let query = embed_values(index.rel, &model, &[query]).swap_remove(0);
        let mut stats = ScanStats::default();
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
            patience: guc::patience(index.rel.blocks()),
        });
        stats.walk_ms += milliseconds(begin);
        stats::publish(&stats);
        OrderedScan {
            stored: index.sketcher.is_exact().then(|| Stored::new(&query)),
            walk: HubWalk::new(target, HubMetric::Search, SEARCH_BEAM),
            batch: guc::recompute_batch(),
            index,
            model,
            query,
            sketch_query,
            rerank,
            stats,
            estimates: Vec::new(),
        }
    }

    /// The next row in order of distance.
    pub fn next(&mut self, reader: &mut RowReader) -> Option<HeapPointer> {
        let next = loop {
            if !self.rerank.make_room(MOST_NODES, self.batch.max(MOST_AT_ONCE)) {
                memory::raise_no_room("the candidates of a search");
            }
            match self.rerank.next_step() {
                Step::Emit(pointer, _) => {
                    if let Some(stored) = &mut self.stored {
                        stored.returned(pointer);
                    }
                    break Some(pointer);
                }
                Step::Walk => self.visit_page(),
                Step::Recompute => self.recompute(reader),
                Step::Done => break None,
            }
        };
        self.stats.late = self.rerank.late();
        stats::publish(&self.stats);
        next
    }

    /// Visits the best node page not visited yet: scores all its nodes.
    fn visit_page(&mut self) {
        interrupts::check();
        let begin = Instant::now();
        match hubs::next_page(&mut self.walk, &self.index) {
            Some((_, page, _)) => {
                if !self.score_page(page) {
                    self.walk.rescan();
                }
            }
            None => self.rerank.walk_exhausted(),
        }
        self.stats.walk_ms += milliseconds(begin);
    }

    /// False if the page is no longer the one that its hub spoke of.
    fn score_page(&mut self, page: NodePageRef) -> bool {
        let rel = self.index.rel;
        if page.block == 0 || page.block >= rel.blocks() {
            super::errors::raise_corrupted(
                &rel.name(),
                page.block,
                "a hub names a block beyond the end of the index",
            );
        }
        let guard = PageGuard::read(rel, page.block, Access::Share);
        match kind(guard.body()) {
            Ok(PageKind::Node) => {}
            Ok(_) => return false,
            Err(fault) => corrupted(rel, page.block, fault),
        }
        let nodes = parse_nodes(&self.index, &guard);
        if nodes.generation() != page.generation {
            return false;
        }
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
        match self.stored {
            Some(_) => self.give_stored(&pointers, &values),
            None => self.give_recomputed(&pointers, &values),
        }
    }

    /// The next candidates whose rows the snapshot sees: a whole batch of them, so that all threads have work even where
    /// many rows are dead.
    fn read_batch(&mut self, reader: &mut RowReader) -> (Vec<HeapPointer>, Vec<Embedding>) {
        let batch = self.batch.max(self.rerank.needed().min(MOST_AT_ONCE));
        let mut pointers = Vec::with_capacity(batch);
        let mut values = Vec::with_capacity(batch);
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
        let embeddings = embed_values(self.index.rel, &self.model, values);
        self.stats.add_model_work(&before, &model::counters());
        for (&pointer, embedding) in pointers.iter().zip(embeddings) {
            let squared = operators::squared_distance(&self.query, &embedding);
            self.rerank.give(pointer, operators::similarity(squared) as f32);
        }
    }

    /// What the index stores is taken for exact; a row that holds its vector itself is exact to the bit.
    fn give_stored(&mut self, pointers: &[HeapPointer], values: &[Embedding]) {
        for (&pointer, value) in pointers.iter().zip(values) {
            let similarity = match &value.0 {
                Value::Dense(_) => {
                    let vector = embed_values(self.index.rel, &self.model, std::slice::from_ref(value));
                    operators::similarity(operators::squared_distance(&self.query, &vector[0])) as f32
                }
                Value::Deferred { text, role, .. } => {
                    let Some(similarity) = self.rerank.estimate_of(pointer) else { continue };
                    let squared = 2.0 - 2.0 * f64::from(similarity);
                    if let Some(stored) = &mut self.stored {
                        stored.waiting.insert(pointer, (self.model.key(*role, text), squared.max(0.0)));
                    }
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
