//! A source of a search: one index, what its pages say about the query, and the rows that its nodes point to.

use super::errors;
use super::hubs::HubPages;
use super::index::Index;
use crate::pg::filter::Filter;
use crate::pg::heap::RowReader;
use crate::pg::{Access, interrupts};
use crate::value::Embedding;
use leann_graph::tuning::SEARCH_BEAM;
use leann_graph::{HubMetric, HubWalk, NodePageRef};
use leann_page::HeapPointer;
use leann_sketch::{Estimate, SketchQuery};

/// An index and a query for it.
pub struct Source {
    pub index: Index,
    sketch_query: SketchQuery,
    /// Reused for the estimates of one page.
    estimates: Vec<Estimate>,
}

impl Source {
    /// Prepares an index for a query: a vector of unit length, of the index's model.
    pub fn new(index: Index, query: &[f32]) -> Source {
        let sketch_query = index.sketcher.query(query);
        Source { index, sketch_query, estimates: Vec::new() }
    }

    /// Starts a walk over the index's hubs towards the query.
    pub fn walk(&self) -> HubWalk {
        let components = self.index.meta.center_len as usize;
        let target = self.sketch_query.projected()[..components].to_vec();
        HubWalk::new(target, HubMetric::Search, SEARCH_BEAM)
    }

    /// Returns how unlike the index's rows the query is; 1 if it is not. See [`SketchQuery::strangeness`].
    pub fn strangeness(&self) -> f32 {
        self.sketch_query.strangeness()
    }

    /// Returns where the walk reads hubs.
    pub fn hubs(&self) -> HubPages<'_> {
        HubPages::new(&self.index)
    }

    /// Scores the nodes of a page, those below `floor` roughly, and hands them to `take` as (heap pointer,
    /// estimated similarity, its standard error). Returns their number; None if the page is no longer the one
    /// that its hub named.
    pub fn score_page(
        &mut self,
        page: NodePageRef,
        floor: f32,
        take: impl FnOnce(&mut dyn Iterator<Item = (HeapPointer, f32, f32)>),
    ) -> Option<usize> {
        let page = self.index.node_page(page, Access::Share)?;
        let nodes = page.nodes();
        self.estimates.clear();
        self.sketch_query.score_above(floor, nodes.sketches(), &mut self.estimates);
        let estimates = nodes.heap_pointers().zip(&self.estimates);
        take(&mut estimates.map(|(pointer, estimate)| (pointer, estimate.similarity, estimate.error)));
        Some(nodes.count())
    }

    /// Evaluates a filter on rows and hands to `take` whether the reader's snapshot sees each row and it
    /// passes.
    pub fn check_rows(
        &self,
        reader: &mut RowReader,
        filter: Filter,
        pointers: &[HeapPointer],
        mut take: impl FnMut(HeapPointer, bool),
    ) {
        self.require_in_table(reader, pointers);
        reader.prefetch(pointers);
        for &pointer in pointers {
            take(pointer, reader.passes(pointer, filter));
        }
        reader.release_row();
        interrupts::check();
    }

    /// Raises an error for a pointer beyond the end of the table.
    fn require_in_table(&self, reader: &mut RowReader, pointers: &[HeapPointer]) {
        if let Some(&bad) = pointers.iter().find(|&&pointer| !reader.in_table(pointer)) {
            errors::raise_bad_pointer(&self.index.rel.name(), bad);
        }
    }

    /// Evaluates the index expression on rows and hands each row's value to `take`, or None if the reader's
    /// snapshot does not see the row. Rows in the order of their places are read fastest.
    pub fn read_rows(
        &self,
        reader: &mut RowReader,
        pointers: &[HeapPointer],
        mut take: impl FnMut(HeapPointer, Option<Embedding>),
    ) {
        let _surroundings = reader.surroundings();
        self.require_in_table(reader, pointers);
        reader.prefetch(pointers);
        for &pointer in pointers {
            take(pointer, reader.read(pointer));
        }
        reader.release_row();
        interrupts::check();
    }
}
