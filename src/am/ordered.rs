//! An ordered scan: walk → sketch estimates → visible rows' text → recompute → rerank → emit (am/README.md, "Scan").

use super::errors;
use super::hubs::{self, SEARCH_BEAM};
use super::index::{Index, corrupted, embed_values};
use super::insert::parse_nodes;
use crate::guc::{self, IterativeScan};
use crate::model::{self, Loaded};
use crate::pg::rows::RowReader;
use crate::pg::{Access, PageGuard, interrupts};
use crate::sql::embedding::Embedding;
use crate::sql::operators;
use crate::stats::{self, ScanStats};
use leann_graph::{HubMetric, HubWalk, NodePageRef, Rerank, RerankOptions, Step};
use leann_page::{HeapPointer, PageKind, kind};
use leann_sketch::{Estimate, SketchQuery};
use std::rc::Rc;

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
}

impl OrderedScan {
    /// Embeds the query in the query role, or takes it as it is if it is a vector.
    pub fn start(index: Index, query: Embedding) -> OrderedScan {
        let model = index.model();
        let before = model::counters();
        let query = embed_values(index.rel, &model, &[query]).swap_remove(0);
        let mut stats = ScanStats::default();
        stats.add_model_time(&before, &model::counters());
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
        stats::publish(&stats);
        OrderedScan {
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
            match self.rerank.next_step() {
                Step::Emit(pointer, _) => break Some(pointer),
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
        match hubs::next_page(&mut self.walk, &self.index) {
            Some((_, page, _)) => {
                if !self.score_page(page) {
                    self.walk.rescan();
                }
            }
            None => self.rerank.walk_exhausted(),
        }
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

    /// Recomputes the most optimistic candidates whose rows the snapshot sees: a batch of them, so that all threads
    /// have work even where many rows are dead.
    fn recompute(&mut self, reader: &mut RowReader) {
        let mut pointers = Vec::with_capacity(self.batch);
        let mut values = Vec::with_capacity(self.batch);
        while values.len() < self.batch {
            let mut asked = self.rerank.take_batch(self.batch - values.len());
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
        if values.is_empty() {
            return;
        }
        let before = model::counters();
        let embeddings = embed_values(self.index.rel, &self.model, &values);
        self.stats.add_model_work(&before, &model::counters());
        for (pointer, embedding) in pointers.into_iter().zip(embeddings) {
            let squared = operators::squared_distance(&self.query, &embedding);
            self.rerank.give(pointer, operators::similarity(squared) as f32);
        }
    }
}
