//! Index scans: the server's entry points. What an ordered scan does is in `ordered`.

use super::errors;
use super::hubs;
use super::index::Index;
use super::insert::{parse_nodes, read_node_page};
use super::ordered::OrderedScan;
use crate::error::OrRaise;
use crate::pg::expression::{self, Definition};
use crate::pg::rows::RowReader;
use crate::pg::{Access, Rel, interrupts, memory, statistics};
use crate::sql::operators;
use leann_graph::NodePageRef;
use leann_page::HeapPointer;
use pgrx::{PgMemoryContexts, pg_sys};
use std::collections::HashSet;

/// What a scan is doing.
enum Stage {
    /// Not started, or at its end.
    Idle,
    /// The query is NULL: every distance is NULL, so any order is right, and no model is needed.
    AnyOrder(Box<AllRows>),
    Ordered(Box<OrderedScan>),
}

/// The state behind a scan descriptor. Its Rust memory goes with the memory context of the scan; what belongs to the
/// server (`reader`) is given back in `amendscan`, or by transaction abort.
struct ScanState {
    stage: Stage,
    reader: Option<RowReader>,
    /// What the index's definition says, read at the first rescan: a join rescans once per row.
    definition: Option<Definition>,
    /// For what the server allocates in a rescan, emptied by the next one.
    rescan: pg_sys::MemoryContext,
    /// The server's statistics count a scan when its first row is asked for.
    counted: bool,
}

#[pgrx::pg_guard]
pub unsafe extern "C-unwind" fn ambeginscan(
    index: pg_sys::Relation,
    keys: i32,
    order_bys: i32,
) -> pg_sys::IndexScanDesc {
    // SAFETY: the server hands over the open index; the state is dropped when the context that holds the scan
    // descriptor goes, whether the statement ends well or not, and its own context is a child of that one.
    unsafe {
        let scan = pg_sys::RelationGetIndexScan(index, keys, order_bys);
        let state = ScanState {
            stage: Stage::Idle,
            reader: None,
            definition: None,
            rescan: pg_sys::AllocSetContextCreateExtended(
                pg_sys::CurrentMemoryContext,
                c"leann rescan".as_ptr(),
                pg_sys::ALLOCSET_SMALL_MINSIZE as usize,
                pg_sys::ALLOCSET_SMALL_INITSIZE as usize,
                pg_sys::ALLOCSET_SMALL_MAXSIZE as usize,
            ),
            counted: false,
        };
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
    // SAFETY: called by the server with the scan and the order-by keys of this rescan. Nothing that the context held is
    // in use any more: the stage that the former rescan began is gone.
    unsafe {
        let state = state(scan);
        state.stage = Stage::Idle;
        state.counted = false;
        if order_bys.is_null() || order_by_count < 1 {
            return;
        }
        if order_by_count > 1 {
            errors::raise_internal(format!("a leann index orders by one distance, not by {order_by_count}"));
        }
        pg_sys::MemoryContextReset(state.rescan);
        let former = pg_sys::MemoryContextSwitchTo(state.rescan);
        let index = Rel::from_raw((*scan).indexRelation);
        let definition = state.definition.get_or_insert_with(|| expression::definition(index));
        state.stage = begin(&*scan, &*order_bys, definition);
        pg_sys::MemoryContextSwitchTo(former);
    }
}

/// Begins a scan in the order of `key`. An ordered one checks that the query is of the index's model, and embeds it.
///
/// # Safety
/// The relations of `scan` are open, its snapshot is null or stays live as long as the scan, and `key` is an order-by key that
/// the server made for it.
unsafe fn begin(
    scan: &pg_sys::IndexScanDescData,
    key: &pg_sys::ScanKeyData,
    definition: &Definition,
) -> Stage {
    // SAFETY: by the caller's promise.
    let (rel, table) = unsafe { (Rel::from_raw(scan.indexRelation), Rel::from_raw(scan.heapRelation)) };
    let mut index = Index::open(rel);
    index.snapshot = scan.xs_snapshot;
    if key.sk_flags & pg_sys::SK_ISNULL as i32 != 0 {
        return Stage::AnyOrder(Box::new(AllRows::of(index)));
    }
    if !index.serves_default_model(definition) {
        errors::raise_default_model(&rel.name(), &index.meta.model, &crate::model::default_name());
    }
    // SAFETY: the index is open and has one key column; the key's argument is of the type that its operator declares, and
    // where it names none, of the index's.
    let query = unsafe {
        let embedding = *(*rel.raw()).rd_opcintype;
        let subtype = if key.sk_subtype == pg_sys::InvalidOid { embedding } else { key.sk_subtype };
        operators::query_from_datum(key.sk_argument, subtype, embedding, index.meta.dim as usize)
    };
    Stage::Ordered(Box::new(OrderedScan::start(index, table, query.or_raise())))
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
        if !std::mem::replace(&mut state.counted, true) {
            statistics::count_scan(scan);
        }
        let next = match &mut state.stage {
            Stage::Idle => {
                if (*scan).numberOfOrderBys == 0 {
                    errors::raise_internal("leann indexes answer ORDER BY distance only".to_string());
                }
                None
            }
            Stage::AnyOrder(rows) => rows.next(Rel::from_raw((*scan).heapRelation)),
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

/// All heap pointers in any order, page after page as their hubs name them. Hubs are read again when a page turns out to be
/// another one than its hub said, and at the end, until they name no page that was not visited (am/README.md, "Nothing is
/// missed"). A node that moved may be met twice.
struct AllRows {
    index: Index,
    known: HashSet<NodePageRef>,
    /// Known and not visited, the lowest block last.
    pages: Vec<NodePageRef>,
    page: Vec<HeapPointer>,
    seen: HashSet<HeapPointer>,
}

impl AllRows {
    fn of(index: Index) -> AllRows {
        AllRows { index, known: HashSet::new(), pages: Vec::new(), page: Vec::new(), seen: HashSet::new() }
    }

    fn next(&mut self, table: Rel) -> Option<HeapPointer> {
        loop {
            while let Some(pointer) = self.page.pop() {
                if self.seen.insert(pointer) {
                    return Some(pointer);
                }
            }
            interrupts::check();
            if self.pages.is_empty() {
                self.read_hubs();
            }
            let next = self.pages.pop()?;
            match node_pointers(&self.index, next) {
                Some(pointers) => self.page = pointers,
                None => self.read_hubs(),
            }
            memory::expect_room(self.seen.try_reserve(self.page.len()), "the rows of a scan");
            let blocks = table.blocks();
            if let Some(&bad) = self.page.iter().find(|pointer| pointer.block >= blocks) {
                errors::raise_bad_pointer(&self.index.rel.name(), bad);
            }
        }
    }

    /// Takes in the pages that are not known yet.
    fn read_hubs(&mut self) {
        let all = hubs::node_pages(&self.index);
        let what = "the pages of a scan";
        memory::expect_room(self.known.try_reserve(all.len()), what);
        memory::reserve(&mut self.pages, all.len(), what);
        self.pages.extend(all.into_iter().filter(|&page| self.known.insert(page)));
        self.pages.sort_unstable_by(|a, b| b.cmp(a));
    }
}

/// The heap pointers on a node page; None if it is no longer the one that its hub spoke of.
fn node_pointers(index: &Index, page: NodePageRef) -> Option<Vec<HeapPointer>> {
    let guard = read_node_page(index, page, Access::Share)?;
    Some(parse_nodes(index, &guard).heap_pointers().collect())
}
