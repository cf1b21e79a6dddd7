//! Index scans: the server's entry points. What an ordered scan does is in `ordered`.

use super::errors;
use super::index::Index;
use super::ordered::OrderedScan;
use crate::error::OrRaise;
use crate::pg::rows::RowReader;
use crate::pg::{Access, PageGuard, Rel, interrupts};
use crate::sql::operators;
use leann_page::{HeapPointer, NodePage, PageKind, kind};
use pgrx::{PgMemoryContexts, pg_sys};
use std::collections::HashSet;

/// What a scan is doing.
enum Stage {
    /// Not started, or at its end.
    Idle,
    /// The query is NULL: every distance is NULL, so any order is right, and no model is needed.
    AnyOrder(Sweep),
    Ordered(Box<OrderedScan>),
}

/// The state behind a scan descriptor. Its Rust memory goes with the memory context of the scan; what belongs to the
/// server (`reader`) is given back in `amendscan`, or by transaction abort.
struct ScanState {
    stage: Stage,
    reader: Option<RowReader>,
}

#[pgrx::pg_guard]
pub unsafe extern "C-unwind" fn ambeginscan(
    index: pg_sys::Relation,
    keys: i32,
    order_bys: i32,
) -> pg_sys::IndexScanDesc {
    // SAFETY: the server hands over the open index; the state is dropped when the context that holds the scan
    // descriptor goes, whether the statement ends well or not.
    unsafe {
        let scan = pg_sys::RelationGetIndexScan(index, keys, order_bys);
        let state = ScanState { stage: Stage::Idle, reader: None };
        (*scan).opaque = PgMemoryContexts::CurrentMemoryContext.leak_and_drop_on_delete(state).cast();
        scan
    }
}

/// # Safety
/// `scan` was made by `ambeginscan`, and no other reference to its state is alive.
unsafe fn state<'a>(scan: pg_sys::IndexScanDesc) -> &'a mut ScanState {
    // SAFETY: by the caller's promise `opaque` points to the state made in `ambeginscan`.
    unsafe { &mut *((*scan).opaque as *mut ScanState) }
}

#[pgrx::pg_guard]
pub unsafe extern "C-unwind" fn amrescan(
    scan: pg_sys::IndexScanDesc,
    _keys: pg_sys::ScanKey,
    _key_count: i32,
    order_bys: pg_sys::ScanKey,
    order_by_count: i32,
) {
    // SAFETY: called by the server with the scan and the order-by keys of this rescan.
    unsafe {
        let state = state(scan);
        state.stage = Stage::Idle;
        if order_bys.is_null() || order_by_count < 1 {
            return;
        }
        let key = &*order_bys;
        let index = Rel::from_raw((*scan).indexRelation);
        state.stage = if key.sk_flags & pg_sys::SK_ISNULL as i32 != 0 {
            Stage::AnyOrder(Sweep::new(index))
        } else {
            let table = Rel::from_raw((*scan).heapRelation);
            Stage::Ordered(Box::new(start(index, table, key)))
        };
    }
}

/// Begins an ordered scan: checks that the query is of the index's model, and embeds it.
///
/// # Safety
/// `key` is an order-by key that the server made for a scan of `rel`, and not NULL.
unsafe fn start(rel: Rel, table: Rel, key: &pg_sys::ScanKeyData) -> OrderedScan {
    let index = Index::open(rel);
    if !index.serves_default_model() {
        errors::raise_default_model(&rel.name(), &index.meta.model, &crate::model::default_name());
    }
    // SAFETY: the index is open and has one key column; the key's argument is of the type that its operator declares, and
    // where it names none, of the index's.
    let query = unsafe {
        let embedding = *(*rel.raw()).rd_opcintype;
        let subtype = if key.sk_subtype == pg_sys::InvalidOid { embedding } else { key.sk_subtype };
        operators::query_from_datum(key.sk_argument, subtype, embedding, index.meta.dim as usize)
    };
    OrderedScan::start(index, table, query.or_raise())
}

#[pgrx::pg_guard]
pub unsafe extern "C-unwind" fn amgettuple(
    scan: pg_sys::IndexScanDesc,
    direction: pg_sys::ScanDirection::Type,
) -> bool {
    if direction != pg_sys::ScanDirection::ForwardScanDirection {
        errors::raise_internal("leann indexes are read forwards only".to_string());
    }
    // SAFETY: called by the server with a scan of ours, whose relations and snapshot are live.
    unsafe {
        let state = state(scan);
        let next = match &mut state.stage {
            Stage::Idle => {
                if (*scan).numberOfOrderBys == 0 {
                    errors::raise_internal("leann indexes answer ORDER BY distance only".to_string());
                }
                None
            }
            Stage::AnyOrder(sweep) => sweep.next(Rel::from_raw((*scan).heapRelation)),
            Stage::Ordered(ordered) => {
                let isolated = ordered.is_isolated();
                if let Some(other) = state.reader.take_if(|reader| reader.is_isolated() != isolated) {
                    other.close();
                }
                if state.reader.is_none() {
                    state.reader = Some(open_reader(scan, isolated));
                }
                state.reader.as_mut().and_then(|reader| ordered.next(reader))
            }
        };
        let Some(pointer) = next else {
            state.stage = Stage::Idle;
            return false;
        };
        (*scan).xs_heaptid = pg_sys::ItemPointerData {
            ip_blkid: pg_sys::BlockIdData {
                bi_hi: (pointer.block >> 16) as u16,
                bi_lo: (pointer.block & 0xffff) as u16,
            },
            ip_posid: pointer.offset,
        };
        (*scan).xs_recheck = false;
        (*scan).xs_recheckorderby = false;
        true
    }
}

/// # Safety
/// `scan` is a live scan whose table and snapshot are set.
unsafe fn open_reader(scan: pg_sys::IndexScanDesc, isolated: bool) -> RowReader {
    // SAFETY: the executor keeps relations and snapshot until the scan ends. What the reader allocates must live as
    // long as the scan, so it goes where the scan's state is.
    unsafe {
        let context = pg_sys::GetMemoryChunkContext(scan.cast());
        let former = pg_sys::MemoryContextSwitchTo(context);
        let table = Rel::from_raw((*scan).heapRelation);
        let index = Rel::from_raw((*scan).indexRelation);
        let reader = RowReader::open(table, index, (*scan).xs_snapshot, isolated);
        pg_sys::MemoryContextSwitchTo(former);
        reader.unwrap_or_else(|| {
            errors::raise_internal("a leann index is read with an MVCC snapshot only".to_string())
        })
    }
}

#[pgrx::pg_guard]
pub unsafe extern "C-unwind" fn amendscan(scan: pg_sys::IndexScanDesc) {
    // SAFETY: called by the server once, with a scan of ours.
    unsafe {
        let state = state(scan);
        state.stage = Stage::Idle;
        if let Some(reader) = state.reader.take() {
            reader.close();
        }
    }
}

/// All heap pointers in any order: an ascending sweep over the node pages. Nodes move only to higher blocks, so none
/// is missed; one that moved may be met twice.
struct Sweep {
    rel: Rel,
    next_block: u32,
    page: Vec<HeapPointer>,
    seen: HashSet<HeapPointer>,
}

impl Sweep {
    fn new(rel: Rel) -> Sweep {
        Sweep { rel, next_block: 1, page: Vec::new(), seen: HashSet::new() }
    }

    fn next(&mut self, table: Rel) -> Option<HeapPointer> {
        loop {
            while let Some(pointer) = self.page.pop() {
                if self.seen.insert(pointer) {
                    return Some(pointer);
                }
            }
            if self.next_block >= self.rel.blocks() {
                return None;
            }
            interrupts::check();
            self.page = node_pointers(self.rel, self.next_block);
            let blocks = table.blocks();
            if let Some(&bad) = self.page.iter().find(|pointer| pointer.block >= blocks) {
                errors::raise_bad_pointer(&self.rel.name(), bad);
            }
            self.next_block += 1;
        }
    }
}

/// The heap pointers on a block; none if it is no node page.
fn node_pointers(rel: Rel, block: u32) -> Vec<HeapPointer> {
    let guard = PageGuard::read(rel, block, Access::Share);
    match kind(guard.body()) {
        Ok(PageKind::Node) => NodePage::parse(guard.body())
            .map(|nodes| nodes.heap_pointers().collect())
            .unwrap_or_else(|fault| super::index::corrupted(rel, block, fault)),
        Ok(_) => Vec::new(),
        Err(fault) => super::index::corrupted(rel, block, fault),
    }
}
