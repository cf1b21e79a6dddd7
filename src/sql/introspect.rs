//! `leann.index_info`, `leann.last_scan` and `leann.check`.

use super::Text;
use crate::am::errors;
use crate::am::{check, index, state};
use crate::pg::function::{self, Own};
use crate::pg::relation::{self, OpenIndex};
use crate::pg::{Access, PageGuard, Strategy, interrupts, rights};
use crate::stats;
use leann_page::{HubPage, Meta, NodePage, PageKind, SketchForm, kind};
use pgrx::prelude::*;

/// Opens an index of this access method for a user who may read its table.
pub fn open(oid: pg_sys::Oid) -> OpenIndex {
    open_with(oid, |_, table| rights::require_select(table))
}

/// Opens an index of this access method for a user who owns it, as amcheck does.
fn open_to_check(oid: pg_sys::Oid) -> OpenIndex {
    open_with(oid, rights::require_maintenance)
}

/// Opens an index once the user's rights to it and its table have been looked at: without them nothing is locked.
fn open_with(oid: pg_sys::Oid, require: fn(pg_sys::Oid, pg_sys::Oid)) -> OpenIndex {
    require(oid, table_of(oid));
    if let Some(obstacle) = state::of_partitioned(oid) {
        obstacle.raise();
    }
    let Some(open) = OpenIndex::open(oid) else { errors::raise_no_leann_index(oid) };
    // SAFETY: an open index names the handler of its access method.
    let handler = unsafe { (*open.index().raw()).rd_amhandler };
    if !function::is(handler, Own::Handler) {
        errors::raise_no_leann_index(oid);
    }
    open
}

/// The table of an index; an error for what is none.
fn table_of(index: pg_sys::Oid) -> pg_sys::Oid {
    // SAFETY: takes any oid.
    let table = unsafe { pg_sys::IndexGetRelation(index, true) };
    if table == pg_sys::InvalidOid {
        errors::raise_no_leann_index(index);
    }
    table
}

/// Rows below which a trained sketch is not worth a rebuild.
const TRAIN_ADVISED_FROM: u64 = 1000;
/// An index that was built over this share of its rows and is untrained all the same has rows that are too much alike.
const TRAINED_ELSE: u64 = 2;
/// Growth since training from which new directions may be worth a rebuild.
const GROWTH_ADVISED: u64 = 20;
/// An index of so many times the blocks that its rows need is worth a rebuild, if that saves so many blocks.
const BLOCKS_ADVISED: f64 = 1.5;
const SAVING_ADVISED: f64 = 32.0;
/// How full node pages are where inserts filled them.
const GROWN_FILL: f64 = 0.7;

/// What an administrator may want to do about the index.
fn advice(meta: &Meta, pages: &Pages, blocks: u32) -> Option<&'static str> {
    if meta.sketch_form == SketchForm::Untrained
        && pages.nodes >= TRAIN_ADVISED_FROM
        && pages.nodes > TRAINED_ELSE * meta.rows_at_build
    {
        return Some("the sketch is untrained: REINDEX makes searches cheaper");
    }
    if meta.sketch_form == SketchForm::Trained && pages.nodes > GROWTH_ADVISED * meta.rows_at_build.max(1) {
        return Some("the index has grown far beyond the rows its sketch was trained on: consider REINDEX");
    }
    let per_page = pages.slots as f64 / pages.node_pages.max(1) as f64;
    let node_pages = (pages.nodes as f64 / (GROWN_FILL * per_page).max(1.0)).ceil().max(1.0);
    let others = 1.0
        + pages.params_pages as f64
        + pages.hub_pages as f64 * node_pages / pages.node_pages.max(1) as f64;
    let (blocks, needed) = (f64::from(blocks), node_pages + others);
    (blocks > BLOCKS_ADVISED * needed && blocks - needed > SAVING_ADVISED)
        .then_some("most of the index is empty: rows to come use the free pages, and REINDEX gives them back")
}

/// Counts over all pages.
#[derive(Default)]
struct Pages {
    nodes: u64,
    slots: u64,
    node_pages: i64,
    hub_pages: i64,
    params_pages: i64,
    free_pages: i64,
}

fn count_pages(rel: crate::pg::Rel) -> Pages {
    let mut pages = Pages::default();
    let strategy = Strategy::bulk_read();
    for block in 1..rel.blocks() {
        interrupts::check();
        let page = PageGuard::read_by(&strategy, rel, block, Access::Share);
        match kind(page.body()).unwrap_or_else(|fault| index::corrupted(rel, block, fault)) {
            PageKind::Node => {
                let nodes =
                    NodePage::parse(page.body()).unwrap_or_else(|fault| index::corrupted(rel, block, fault));
                pages.node_pages += 1;
                pages.nodes += nodes.count() as u64;
                pages.slots += nodes.capacity() as u64;
            }
            PageKind::Hub => {
                pages.hub_pages += 1;
                HubPage::parse(page.body()).unwrap_or_else(|fault| index::corrupted(rel, block, fault));
            }
            PageKind::Params => pages.params_pages += 1,
            PageKind::Free | PageKind::Zero => pages.free_pages += 1,
            PageKind::Meta => {}
        }
    }
    pages
}

/// A line of `leann.index_info`: all but the advice NULL where the index cannot be read.
#[derive(Default)]
struct Info {
    described: Option<(Meta, Pages, u32)>,
    advice: Option<String>,
}

/// What there is to say of an index. None if it is gone by now.
fn describe(index_oid: pg_sys::Oid) -> Option<Info> {
    if relation::is_gone(index_oid) {
        return None;
    }
    rights::require_select(table_of(index_oid));
    if let Some(obstacle) = state::of_partitioned(index_oid) {
        return Some(Info { advice: Some(obstacle.advice()), ..Info::default() });
    }
    let open = open(index_oid);
    let rel = open.index();
    if let Some(obstacle) = state::obstacle(rel, open.table()) {
        return Some(Info { advice: Some(obstacle.advice()), ..Info::default() });
    }
    let meta = index::read_meta(rel);
    let pages = count_pages(rel);
    let blocks = rel.blocks();
    let advice = advice(&meta, &pages, blocks).map(str::to_owned);
    Some(Info { described: Some((meta, pages, blocks)), advice })
}

#[allow(clippy::type_complexity)]
#[pg_extern(sql = false)]
fn index_info(
    index_oid: pg_sys::Oid,
) -> TableIterator<
    'static,
    (
        name!(model, Option<Text>),
        name!(fingerprint, Option<String>),
        name!(dimensions, Option<i32>),
        name!(store, Option<&'static str>),
        name!(trained, Option<bool>),
        name!(rows_trained, Option<i64>),
        name!(sketch_bytes, Option<i32>),
        name!(directions, Option<i32>),
        name!(nodes, Option<i64>),
        name!(node_pages, Option<i64>),
        name!(hub_pages, Option<i64>),
        name!(params_pages, Option<i64>),
        name!(free_pages, Option<i64>),
        name!(fill, Option<f64>),
        name!(bytes, Option<i64>),
        name!(bytes_per_row, Option<f64>),
        name!(rows_at_build, Option<i64>),
        name!(truncated_rows, Option<i64>),
        name!(advice, Option<String>),
    ),
> {
    TableIterator::new(describe(index_oid).into_iter().map(|Info { described, advice }| {
        let (meta, pages, blocks) = match described {
            Some((meta, pages, blocks)) => (Some(meta), Some(pages), Some(blocks)),
            None => (None, None, None),
        };
        let (meta, pages) = (meta.as_ref(), pages.as_ref());
        let bytes = blocks.map(|blocks| i64::from(blocks) * i64::from(pg_sys::BLCKSZ));
        let nodes = pages.map(|pages| pages.nodes).filter(|&nodes| nodes > 0);
        let store = |meta: &Meta| if meta.sketch_form == SketchForm::Float16 { "float16" } else { "none" };
        (
            meta.map(|meta| Text::listed(meta.model.clone())),
            meta.map(|meta| meta.fingerprint.iter().map(|byte| format!("{byte:02x}")).collect()),
            meta.map(|meta| meta.dim as i32),
            meta.map(store),
            meta.map(|meta| meta.sketch_form == SketchForm::Trained),
            meta.map(|meta| i64::from(meta.rows_trained)),
            meta.map(|meta| i32::from(meta.sketch_bytes)),
            meta.map(|meta| i32::from(meta.directions)),
            pages.map(|pages| pages.nodes as i64),
            pages.map(|pages| pages.node_pages),
            pages.map(|pages| pages.hub_pages),
            pages.map(|pages| pages.params_pages),
            pages.map(|pages| pages.free_pages),
            pages.map(|pages| pages.nodes as f64 / pages.slots.max(1) as f64),
            bytes,
            bytes.zip(nodes).map(|(bytes, nodes)| bytes as f64 / nodes as f64),
            meta.map(|meta| meta.rows_at_build as i64),
            // Deleted rows stay counted until the next build.
            meta.zip(pages).map(|(meta, pages)| meta.truncated_rows.min(pages.nodes) as i64),
            advice,
        )
    }))
}

#[allow(clippy::type_complexity)]
#[pg_extern(sql = false)]
fn last_scan() -> TableIterator<
    'static,
    (
        name!(scans, i64),
        name!(pages, i64),
        name!(nodes, i64),
        name!(candidates, i64),
        name!(recomputes, i64),
        name!(cache_hits, i64),
        name!(batches, i64),
        name!(late, i64),
        name!(embedded, i64),
        name!(model_ms, f64),
        name!(walk_ms, f64),
    ),
> {
    let scan = stats::last_scan();
    TableIterator::once((
        scan.scans as i64,
        scan.pages as i64,
        scan.nodes as i64,
        scan.candidates as i64,
        scan.recomputes as i64,
        scan.cache_hits as i64,
        scan.batches as i64,
        scan.late as i64,
        stats::embedded() as i64,
        scan.model_ms,
        scan.walk_ms,
    ))
}

#[pg_extern(sql = false)]
fn check_index(index_oid: pg_sys::Oid) -> TableIterator<'static, (name!(block, i64), name!(fault, String))> {
    let open = open_to_check(index_oid);
    if let Some(obstacle) = state::obstacle(open.index(), open.table()) {
        obstacle.raise();
    }
    let faults = check::check(open.index(), open.table());
    TableIterator::new(
        faults.into_iter().map(|fault| (i64::from(fault.block), fault.what)).collect::<Vec<_>>(),
    )
}
