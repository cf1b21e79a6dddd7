//! `leann.index_info`, `leann.last_scan` and `leann.check`.

use crate::am::errors;
use crate::am::{check, index};
use crate::pg::buffer::BODY_BYTES;
use crate::pg::relation::OpenIndex;
use crate::pg::{Access, PageGuard, interrupts};
use crate::stats;
use leann_page::{HubPage, NodePage, PageKind, SketchForm, kind};
use pgrx::prelude::*;

/// Opens an index of this access method for a user who may read its table.
fn open(oid: pg_sys::Oid) -> OpenIndex {
    let Some(open) = OpenIndex::open(oid) else { errors::raise_no_leann_index(oid) };
    // SAFETY: both relations are open, so they have their pg_class rows.
    let (ours, allowed) = unsafe {
        let raw = open.index().raw();
        let ours = (*(*raw).rd_rel).relam == pg_sys::get_index_am_oid(c"leann".as_ptr(), true);
        let user = pg_sys::GetUserId();
        let allowed = pg_sys::pg_class_aclcheck(open.table().oid(), user, pg_sys::ACL_SELECT as _)
            == pg_sys::AclResult::ACLCHECK_OK;
        (ours, allowed)
    };
    if !ours {
        errors::raise_no_leann_index(oid);
    }
    if !allowed {
        errors::raise_no_select(&open.table().name());
    }
    open
}

/// Rows below which a trained sketch is not worth a rebuild.
const TRAIN_ADVISED_FROM: u64 = 1000;
/// Growth since training from which new directions may be worth a rebuild.
const GROWTH_ADVISED: u64 = 20;

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
    for block in 1..rel.blocks() {
        interrupts::check();
        let page = PageGuard::read(rel, block, Access::Share);
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

#[allow(clippy::type_complexity)]
#[pg_extern(sql = false)]
fn index_info(
    index_oid: pg_sys::Oid,
) -> TableIterator<
    'static,
    (
        name!(model, String),
        name!(fingerprint, String),
        name!(dimensions, i32),
        name!(store, String),
        name!(trained, bool),
        name!(rows_trained, i64),
        name!(sketch_bytes, i32),
        name!(directions, i32),
        name!(nodes, i64),
        name!(node_pages, i64),
        name!(hub_pages, i64),
        name!(params_pages, i64),
        name!(free_pages, i64),
        name!(fill, f64),
        name!(bytes, i64),
        name!(bytes_per_row, Option<f64>),
        name!(rows_at_build, i64),
        name!(advice, Option<String>),
    ),
> {
    let open = open(index_oid);
    let rel = open.index();
    let meta = index::read_meta(rel);
    let pages = count_pages(rel);
    let bytes = i64::from(rel.blocks()) * (BODY_BYTES + crate::pg::buffer::HEADER_BYTES) as i64;
    let store = if meta.sketch_form == SketchForm::Float16 { "float16" } else { "none" };
    let advice = if meta.sketch_form == SketchForm::Untrained && pages.nodes >= TRAIN_ADVISED_FROM {
        Some("the sketch is untrained: REINDEX makes searches cheaper".to_string())
    } else if meta.sketch_form == SketchForm::Trained
        && pages.nodes > GROWTH_ADVISED * meta.rows_at_build.max(1)
    {
        Some(
            "the index has grown far beyond the rows its sketch was trained on: consider REINDEX".to_string(),
        )
    } else {
        None
    };
    TableIterator::once((
        meta.model,
        meta.fingerprint.iter().map(|byte| format!("{byte:02x}")).collect(),
        meta.dim as i32,
        store.to_owned(),
        meta.sketch_form == SketchForm::Trained,
        i64::from(meta.rows_trained),
        i32::from(meta.sketch_bytes),
        i32::from(meta.directions),
        pages.nodes as i64,
        pages.node_pages,
        pages.hub_pages,
        pages.params_pages,
        pages.free_pages,
        pages.nodes as f64 / pages.slots.max(1) as f64,
        bytes,
        (pages.nodes > 0).then(|| bytes as f64 / pages.nodes as f64),
        meta.rows_at_build as i64,
        advice,
    ))
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
    let open = open(index_oid);
    let faults = check::check(open.index(), open.table());
    TableIterator::new(
        faults.into_iter().map(|fault| (i64::from(fault.block), fault.what)).collect::<Vec<_>>(),
    )
}
