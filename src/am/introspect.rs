//! `leann.index_info`, `leann.last_scan` and `leann.check`.

use super::advice::advice;
use super::index::load_sketcher;
use super::page_counts::PageCounts;
use super::pages::read_meta;
use super::{check, errors, obstacle, stats};
use crate::pg::function::{self, Own};
use crate::pg::relation::{self, OpenIndex};
use crate::pg::rights;
use crate::value::{Text, hex};
use leann_page::{Meta, SketchForm};
use pgrx::prelude::*;

/// Opens an index of this access method for a user who may read its table.
pub fn open(oid: pg_sys::Oid) -> OpenIndex {
    open_with(oid, |_, table| rights::require_select(table))
}

/// Opens an index of this access method for a user who owns it, as amcheck does.
fn open_to_check(oid: pg_sys::Oid) -> OpenIndex {
    open_with(oid, rights::require_maintenance)
}

/// Opens an index of this access method after `require` has checked the user's rights to it and its table:
/// without them nothing is locked.
fn open_with(oid: pg_sys::Oid, require: fn(pg_sys::Oid, pg_sys::Oid)) -> OpenIndex {
    require(oid, table_of(oid));
    if let Some(obstacle) = obstacle::find_partitioned(oid) {
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

/// Returns the table of an index. Raises an error for anything else.
fn table_of(index: pg_sys::Oid) -> pg_sys::Oid {
    // SAFETY: takes any oid.
    let table = unsafe { pg_sys::IndexGetRelation(index, true) };
    if table == pg_sys::InvalidOid {
        errors::raise_no_leann_index(index);
    }
    table
}

/// One row of `leann.index_info`. All columns except the advice are NULL if the index cannot be read.
#[derive(Default)]
struct IndexDescription {
    /// The meta page, the counts and the number of blocks.
    described: Option<(Meta, PageCounts, u32)>,
    advice: Option<String>,
}

/// Describes an index; None if it is gone by now.
fn describe(index_oid: pg_sys::Oid) -> Option<IndexDescription> {
    if relation::is_gone(index_oid) {
        return None;
    }
    rights::require_select(table_of(index_oid));
    if let Some(obstacle) = obstacle::find_partitioned(index_oid) {
        return Some(IndexDescription { advice: Some(obstacle.advice()), ..IndexDescription::default() });
    }
    let open = open(index_oid);
    let rel = open.index();
    if let Some(obstacle) = obstacle::find(rel, open.table()) {
        return Some(IndexDescription { advice: Some(obstacle.advice()), ..IndexDescription::default() });
    }
    let meta = read_meta(rel);
    // Where the parameters are damaged, the columns that need them are NULL; `leann.check` tells why.
    let sketcher = load_sketcher(rel, &meta).ok();
    let pages = PageCounts::of(rel, &meta, sketcher.as_ref());
    let blocks = rel.blocks();
    let advice = advice(&meta, &pages, blocks).map(str::to_owned);
    Some(IndexDescription { described: Some((meta, pages, blocks)), advice })
}

/// Describes an index: `leann.index_info(index)`.
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
        name!(untrained_rows, Option<i64>),
        name!(untrained_rows_at_build, Option<i64>),
        name!(sketch_fit, Option<f64>),
        name!(sketch_fit_at_build, Option<f64>),
        name!(truncated_rows, Option<i64>),
        name!(advice, Option<String>),
    ),
> {
    TableIterator::new(describe(index_oid).into_iter().map(|IndexDescription { described, advice }| {
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
            meta.map(|meta| hex(&meta.fingerprint)),
            meta.map(|meta| meta.dim as i32),
            meta.map(store),
            meta.map(|meta| meta.sketch_form.is_trained()),
            meta.map(|meta| i64::from(meta.rows_trained)),
            meta.map(|meta| i32::from(meta.sketch_bytes)),
            meta.map(|meta| i32::from(meta.components)),
            pages.map(|pages| pages.nodes as i64),
            pages.map(|pages| pages.node_pages),
            pages.map(|pages| pages.hub_pages),
            pages.map(|pages| pages.params_pages),
            pages.map(|pages| pages.free_pages),
            pages.map(|pages| pages.nodes as f64 / pages.slots.max(1) as f64),
            bytes,
            bytes.zip(nodes).map(|(bytes, nodes)| bytes as f64 / nodes as f64),
            meta.map(|meta| meta.rows_at_build as i64),
            pages.and_then(|pages| Some(pages.fit?.untrained as i64)),
            meta.map(|meta| meta.untrained_at_build as i64),
            pages.zip(nodes).and_then(|(pages, nodes)| Some(pages.fit?.sum / nodes as f64)),
            meta.filter(|meta| meta.rows_at_build > 0).map(|meta| f64::from(meta.fit_at_build) / 1e4),
            // Deleted rows are counted until the next build.
            meta.zip(pages).map(|(meta, pages)| meta.truncated_rows.min(pages.nodes) as i64),
            advice,
        )
    }))
}

/// Returns the figures of the latest statement that searched: `leann.last_scan()`.
#[allow(clippy::type_complexity)]
#[pg_extern(sql = false)]
fn last_scan() -> TableIterator<
    'static,
    (
        name!(scans, i64),
        name!(pages, i64),
        name!(nodes, i64),
        name!(checked, i64),
        name!(candidates, i64),
        name!(recomputes, i64),
        name!(cache_hits, i64),
        name!(batches, i64),
        name!(late, i64),
        name!(embedded, i64),
        name!(model_ms, f64),
        name!(walk_ms, f64),
        name!(group_size, Option<i64>),
        name!(bound, Option<f64>),
    ),
> {
    let (scan, question) = stats::last_scan();
    TableIterator::once((
        scan.scans as i64,
        scan.pages as i64,
        scan.nodes as i64,
        scan.checked as i64,
        scan.candidates as i64,
        scan.recomputes as i64,
        scan.cache_hits as i64,
        scan.batches as i64,
        scan.late as i64,
        stats::embedded() as i64,
        scan.model_ms,
        scan.walk_ms,
        question.map(|question| question.group_size as i64),
        question.and_then(|question| question.bound),
    ))
}

/// Returns the faults of an index: `leann.check(index)`.
#[pg_extern(sql = false)]
fn check_index(index_oid: pg_sys::Oid) -> TableIterator<'static, (name!(block, i64), name!(fault, String))> {
    let open = open_to_check(index_oid);
    if let Some(obstacle) = obstacle::find(open.index(), open.table()) {
        obstacle.raise();
    }
    let faults = check::check(open.index(), open.table());
    TableIterator::new(
        faults.into_iter().map(|fault| (i64::from(fault.block), fault.what)).collect::<Vec<_>>(),
    )
}
