//! The server's entry points for index scans. `ordered` does the work of an ordered scan.

use super::errors;
use super::group::{self, Group, Turn};
use super::index::Index;
use super::ordered::{Context, OrderedScan, Searches};
use super::similarity_range::SimilarityRange;
use super::stats::{Question, ScanStats};
use crate::error::{OrRaise, raise_internal};
use crate::pg::bounds::Bounds;
use crate::pg::expression::{self, Definition};
use crate::pg::filter::Filter;
use crate::pg::heap::RowReader;
use crate::pg::scan_node::ScanNode;
use crate::pg::{Access, Rel, allocator, interrupts, statistics, tid};
use crate::sql::operators;
use crate::value::Embedding;
use leann_graph::NodePageRef;
use leann_page::HeapPointer;
use pgrx::{PgMemoryContexts, pg_sys};
use std::collections::HashSet;

/// What a scan is doing.
enum Stage {
    /// The scan has not started, or is at its end.
    Idle,
    /// The query is NULL. All distances are NULL too, so any order is right, and no model is needed.
    AnyOrder(Box<AllRows>),
    /// Rows are returned in the order of their distances.
    Ordered(Box<OrderedScan>),
    /// The scan waits for its group to say which row it returns.
    Waiting(Box<Member>),
}

/// What a scan brings to its group.
struct Member {
    index: Index,
    query: Embedding,
    context: Context,
}

/// The state behind a scan descriptor. Its Rust memory is freed with the memory context of the scan. `reader`
/// holds resources of the server, which `amendscan` or the abort of the transaction releases.
struct ScanState {
    stage: Stage,
    reader: Option<RowReader>,
    /// The index's definition, read at the first rescan only, because a join rescans once per row.
    definition: Option<Definition>,
    /// Holds what the server allocates in a rescan. The next rescan empties it.
    rescan: pg_sys::MemoryContext,
    /// What the plan node that drives the scan says, once it is known.
    node: Option<NodeContext>,
    /// Those of the earlier rescans.
    searches: Searches,
    /// Whether the server's statistics have counted the scan, as they do when its first row is fetched.
    counted: bool,
}

/// What the plan node of a scan says, compiled.
struct NodeContext {
    node: ScanNode,
    filter: Option<Filter>,
    bounds: Option<Bounds>,
    /// The group that the scan belongs to, and its number there. It lives as long as the statement.
    group: Option<(*mut Group, usize)>,
}

impl ScanState {
    fn group(&self) -> Option<(*mut Group, usize)> {
        self.node.as_ref().and_then(|known| known.group)
    }

    /// Ends the search that runs, if there is one.
    fn finish(&mut self) {
        if let Stage::Ordered(search) = std::mem::replace(&mut self.stage, Stage::Idle) {
            self.searches.end(&search);
        }
    }

    /// Returns what the searches of the scan have done so far, and what the latest was asked for.
    #[cfg_attr(not(feature = "pg18"), allow(dead_code, reason = "shown by EXPLAIN from Postgres 18 on"))]
    fn figures(&self) -> Option<(ScanStats, Question)> {
        let running = if let Stage::Ordered(search) = &self.stage { Some(&**search) } else { None };
        self.searches.figures(running)
    }
}

impl NodeContext {
    fn of(node: ScanNode) -> NodeContext {
        let (filter, bounds) = (Filter::of(node), Bounds::of(node));
        NodeContext { node, filter, bounds, group: group::of_scan(node) }
    }

    /// Returns what it says of the scan that begins now.
    fn now(&self) -> Context {
        Context {
            filter: self.filter,
            limit: self.node.above.limit(),
            order_is_only_shown: self.node.above.order_is_only_shown,
            similarities: self.bounds.as_ref().map_or_else(SimilarityRange::all, |bounds| {
                bounds.now().iter().fold(SimilarityRange::all(), SimilarityRange::within)
            }),
        }
    }
}

/// Makes a scan descriptor with its state.
#[pgrx::pg_guard]
pub unsafe extern "C-unwind" fn ambeginscan(
    index: pg_sys::Relation,
    keys: i32,
    order_bys: i32,
) -> pg_sys::IndexScanDesc {
    // SAFETY: the server passes the open index. The state is dropped with the context that holds the scan
    // descriptor, whether the statement succeeds or not, and the state's own context is a child of that one.
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
            node: None,
            searches: Searches::default(),
            counted: false,
        };
        (*scan).opaque = PgMemoryContexts::CurrentMemoryContext.leak_and_drop_on_delete(state).cast();
        scan
    }
}

/// Returns the state of a scan.
///
/// # Safety
/// `ambeginscan` made `scan`, and no other reference to its state is alive.
unsafe fn state<'a>(scan: pg_sys::IndexScanDesc) -> &'a mut ScanState {
    // SAFETY: the caller promises that `opaque` points to the state that `ambeginscan` made.
    unsafe { &mut *((*scan).opaque as *mut ScanState) }
}

/// Starts the scan, or starts it again with other order-by keys.
#[pgrx::pg_guard]
pub unsafe extern "C-unwind" fn amrescan(
    scan: pg_sys::IndexScanDesc,
    _keys: pg_sys::ScanKey,
    _key_count: i32,
    order_bys: pg_sys::ScanKey,
    order_by_count: i32,
) {
    // SAFETY: the server passes a live scan that `ambeginscan` made, and calls no other function of it
    // meanwhile.
    let state = unsafe { state(scan) };
    state.finish();
    state.counted = false;
    if let Some((group, _)) = state.group() {
        // SAFETY: the group lives as long as the statement of the scan.
        unsafe { group::leave(group) };
    }
    if order_bys.is_null() || order_by_count < 1 {
        return;
    }
    if order_by_count > 1 {
        raise_internal(format!("a leann index orders by one distance, not by {order_by_count}"));
    }
    // SAFETY: the server passes the order-by keys of this rescan with the scan. Nothing that the context held
    // is in use any more, because the stage that the previous rescan began is gone.
    unsafe {
        pg_sys::MemoryContextReset(state.rescan);
        let former = pg_sys::MemoryContextSwitchTo(state.rescan);
        let index = Rel::from_raw((*scan).indexRelation);
        let context = context(scan, &mut state.node);
        let grouped = state.group().is_some();
        let definition = state.definition.get_or_insert_with(|| expression::definition(index));
        state.stage = begin(&*scan, &*order_bys, definition, context, grouped);
        pg_sys::MemoryContextSwitchTo(former);
    }
}

/// Returns what the statement around a scan tells of it: nothing if the scan has no node.
///
/// # Safety
/// `scan` is a live scan, and `node` is that of the same scan's state.
unsafe fn context(scan: pg_sys::IndexScanDesc, node: &mut Option<NodeContext>) -> Context {
    if node.is_none() {
        // SAFETY: the caller promises a live scan.
        *node = unsafe { ScanNode::of(scan) }.map(NodeContext::of);
    }
    node.as_ref().map_or_else(Context::default, NodeContext::now)
}

/// Begins a scan in the order of `key`. Unless the query is NULL, checks that it uses the index's model, and
/// embeds it.
///
/// # Safety
/// The relations of `scan` are open, its snapshot is null or stays live as long as the scan, and `key` is an
/// order-by key that the server made for it.
unsafe fn begin(
    scan: &pg_sys::IndexScanDescData,
    key: &pg_sys::ScanKeyData,
    definition: &Definition,
    context: Context,
    grouped: bool,
) -> Stage {
    // SAFETY: the caller promises open relations.
    let (rel, table) = unsafe { (Rel::from_raw(scan.indexRelation), Rel::from_raw(scan.heapRelation)) };
    let index = Index::open_for_scan(rel, scan.xs_snapshot);
    if key.sk_flags & pg_sys::SK_ISNULL as i32 != 0 {
        return Stage::AnyOrder(Box::new(AllRows::new(index)));
    }
    if !definition.is_served_by(&index.meta.model) {
        errors::raise_default_model(&rel.name(), &index.meta.model, &crate::model::default_name());
    }
    // SAFETY: the index is open and has one key column. The key's argument has the type that its operator
    // declares, or the index's type if the key names none.
    let query = unsafe {
        let embedding = *(*rel.raw()).rd_opcintype;
        let subtype = if key.sk_subtype == pg_sys::InvalidOid { embedding } else { key.sk_subtype };
        operators::query_from_datum(key.sk_argument, subtype, embedding, index.meta.dim as usize)
    };
    let query = query.or_raise();
    if grouped {
        return Stage::Waiting(Box::new(Member { index, query, context }));
    }
    Stage::Ordered(Box::new(OrderedScan::start(index, table, query, context)))
}

/// Returns the scan's next row to the executor.
#[pgrx::pg_guard]
pub unsafe extern "C-unwind" fn amgettuple(
    scan: pg_sys::IndexScanDesc,
    direction: pg_sys::ScanDirection::Type,
) -> bool {
    if direction != pg_sys::ScanDirection::ForwardScanDirection {
        raise_internal("leann indexes support only forward scans");
    }
    // SAFETY: the server passes a live scan that `ambeginscan` made, and calls no other function of it
    // meanwhile.
    let state = unsafe { state(scan) };
    let turn = match state.group() {
        // SAFETY: the group lives as long as the statement of the scan.
        Some((group, number)) => unsafe { group::turn(group, number) },
        None => Turn::Alone,
    };
    if matches!(turn, Turn::Return(None)) {
        return false;
    }
    if !std::mem::replace(&mut state.counted, true) {
        // SAFETY: the scan is live, and so is its index.
        unsafe { statistics::count_scan(scan) };
    }
    let next = match turn {
        Turn::Return(row) => row,
        // SAFETY: the executor has set the table and the snapshot of a scan whose rows it fetches.
        Turn::Alone => unsafe { next_row(scan, state) },
    };
    let Some(pointer) = next else {
        state.finish();
        return false;
    };
    // SAFETY: the descriptor is live, and access methods return rows in these fields.
    unsafe {
        (*scan).xs_heaptid = tid::to_server(pointer);
        (*scan).xs_recheck = false;
        (*scan).xs_recheckorderby = false;
    }
    true
}

/// Returns the heap pointer of the scan's next row.
///
/// # Safety
/// `scan` is a live scan whose table and snapshot are set.
unsafe fn next_row(scan: pg_sys::IndexScanDesc, state: &mut ScanState) -> Option<HeapPointer> {
    if let Stage::Waiting(_) = state.stage
        && let Stage::Waiting(member) = std::mem::replace(&mut state.stage, Stage::Idle)
    {
        let Member { index, query, context } = *member;
        // SAFETY: the caller promises that the table is set; the executor keeps it open.
        let table = unsafe { Rel::from_raw((*scan).heapRelation) };
        state.stage = Stage::Ordered(Box::new(OrderedScan::start(index, table, query, context)));
    }
    match &mut state.stage {
        Stage::Waiting(_) => None,
        Stage::Idle => {
            // SAFETY: the caller promises a live scan.
            if unsafe { (*scan).numberOfOrderBys } == 0 {
                raise_internal("leann indexes support only ORDER BY distance");
            }
            None
        }
        Stage::AnyOrder(rows) => {
            // SAFETY: the caller promises that the table is set; the executor keeps it open.
            let table = unsafe { Rel::from_raw((*scan).heapRelation) };
            rows.next(table)
        }
        Stage::Ordered(ordered) => {
            // SAFETY: the caller makes the same promise.
            let reader = unsafe { reader_for(scan, &mut state.reader, ordered.is_isolated()) };
            ordered.next(reader)
        }
    }
}

/// Returns the scan's row reader. Replaces one that an earlier rescan opened for the other kind of user.
///
/// # Safety
/// `scan` is a live scan whose table and snapshot are set.
unsafe fn reader_for(
    scan: pg_sys::IndexScanDesc,
    reader: &mut Option<RowReader>,
    isolated: bool,
) -> &mut RowReader {
    if let Some(other) = reader.take_if(|reader| reader.is_isolated() != isolated) {
        other.close();
    }
    // SAFETY: the caller makes the same promise.
    reader.get_or_insert_with(|| unsafe { open_reader(scan, isolated) })
}

/// Opens a row reader that lives as long as the scan.
///
/// # Safety
/// `scan` is a live scan whose table and snapshot are set.
unsafe fn open_reader(scan: pg_sys::IndexScanDesc, isolated: bool) -> RowReader {
    // SAFETY: the executor keeps relations and snapshot until the scan ends. What the reader allocates must
    // live as long as the scan, so it goes into the context of the scan's state.
    unsafe {
        let context = pg_sys::GetMemoryChunkContext(scan.cast());
        let former = pg_sys::MemoryContextSwitchTo(context);
        let table = Rel::from_raw((*scan).heapRelation);
        let index = Rel::from_raw((*scan).indexRelation);
        let reader = RowReader::open(table, index, (*scan).xs_snapshot, isolated);
        pg_sys::MemoryContextSwitchTo(former);
        reader.unwrap_or_else(|| raise_internal("a scan of a leann index requires an MVCC snapshot"))
    }
}

/// Ends a scan and releases what its reader holds.
#[pgrx::pg_guard]
pub unsafe extern "C-unwind" fn amendscan(scan: pg_sys::IndexScanDesc) {
    // SAFETY: the server ends a scan once, with the descriptor that `ambeginscan` made.
    let state = unsafe { state(scan) };
    state.finish();
    if let Some((group, _)) = state.group() {
        // SAFETY: the group lives as long as the statement of the scan.
        unsafe { group::end(group) };
    }
    if let Some(reader) = state.reader.take() {
        reader.close();
    }
}

/// Returns whether a plan node scans an index of this access method by one distance.
///
/// # Safety
/// `node` is a live node that was started.
pub unsafe fn is_own(node: *mut pg_sys::IndexScanState) -> bool {
    let own = amgettuple as *const ();
    // SAFETY: the caller promises a live node; an index that is scanned is open and has its routines.
    unsafe {
        let index = (*node).iss_RelationDesc;
        !index.is_null()
            && (*node).iss_NumOrderByKeys == 1
            && (*(*index).rd_indam).amgettuple.map(|next| next as *const ()) == Some(own)
    }
}

/// Returns what the searches of a scan of an index of this access method have done so far, and what the
/// latest was asked for.
///
/// # Safety
/// `node` is a live node that [`is_own`].
#[cfg_attr(not(feature = "pg18"), allow(dead_code, reason = "shown by EXPLAIN from Postgres 18 on"))]
pub unsafe fn figures(node: *mut pg_sys::IndexScanState) -> Option<(ScanStats, Question)> {
    // SAFETY: the caller promises a live node; its scan is null or was made by `ambeginscan`.
    unsafe {
        let scan = (*node).iss_ScanDesc;
        if scan.is_null() { None } else { state(scan).figures() }
    }
}

/// Begins one search for scans that have begun and wait for it, and opens its row readers unless they are
/// open. None if the scans do not belong together: then nothing has changed.
///
/// # Safety
/// The scans are those of live nodes of a statement that runs, and [`is_own`].
pub unsafe fn together(
    nodes: &[*mut pg_sys::IndexScanState],
    above: Context,
    readers: &mut Vec<RowReader>,
) -> Option<OrderedScan> {
    // SAFETY: the caller promises live nodes. No two of them have the same scan.
    unsafe {
        let scans: Vec<pg_sys::IndexScanDesc> = nodes.iter().map(|node| (**node).iss_ScanDesc).collect();
        let is_waiting =
            |scan: &pg_sys::IndexScanDesc| !scan.is_null() && matches!(state(*scan).stage, Stage::Waiting(_));
        if !scans.iter().all(is_waiting) {
            return None;
        }
        let member = |scan: pg_sys::IndexScanDesc| match &state(scan).stage {
            Stage::Waiting(member) => Some(&**member),
            _ => None,
        };
        let first = member(*scans.first()?)?;
        let alike = |other: &Member| {
            other.query == first.query
                && other.index.meta.model == first.index.meta.model
                && other.index.meta.fingerprint == first.index.meta.fingerprint
                && other.index.meta.dim == first.index.meta.dim
        };
        if !scans.iter().all(|scan| member(*scan).is_some_and(alike)) {
            return None;
        }
        let mut members = Vec::with_capacity(scans.len());
        for scan in &scans {
            if let Stage::Waiting(member) = std::mem::replace(&mut state(*scan).stage, Stage::Idle) {
                members.push((Rel::from_raw((**scan).heapRelation), *member));
            }
        }
        let query = members.first()?.1.query.clone();
        let sources = members.into_iter().map(|(table, member)| (member.index, table, member.context));
        // What the server allocates is freed when the first scan begins again, before which it leaves the
        // search.
        let former = pg_sys::MemoryContextSwitchTo(state(scans[0]).rescan);
        let search = OrderedScan::start_all(sources.collect(), query, above);
        pg_sys::MemoryContextSwitchTo(former);
        // The role that asks may be another one than before.
        if readers.iter().any(|reader| reader.is_isolated() != search.is_isolated()) {
            readers.drain(..).for_each(RowReader::close);
        }
        if readers.is_empty() {
            readers.extend(scans.iter().map(|scan| open_reader(*scan, search.is_isolated())));
        }
        Some(search)
    }
}

/// Returns all heap pointers in any order, page after page as the hubs name them. Reads the hubs again when a
/// page is no longer the one that its hub named, and at the end, until they name no page that was not visited
/// (am/README.md, "Nothing is missed"). A node that moved may occur twice.
struct AllRows {
    index: Index,
    known: HashSet<NodePageRef>,
    /// Pages that are known and not visited, the lowest block last.
    pages: Vec<NodePageRef>,
    /// Heap pointers of the current page that are not returned yet.
    page: Vec<HeapPointer>,
    /// Heap pointers that were returned.
    seen: HashSet<HeapPointer>,
}

impl AllRows {
    fn new(index: Index) -> AllRows {
        AllRows { index, known: HashSet::new(), pages: Vec::new(), page: Vec::new(), seen: HashSet::new() }
    }

    /// Returns the next heap pointer that was not returned before.
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
            allocator::expect_room(self.seen.try_reserve(self.page.len()), "the rows of a scan");
            let blocks = table.blocks();
            if let Some(&bad) = self.page.iter().find(|pointer| pointer.block >= blocks) {
                errors::raise_bad_pointer(&self.index.rel.name(), bad);
            }
        }
    }

    /// Adds the pages that are not known yet.
    fn read_hubs(&mut self) {
        let all = self.index.all_node_pages();
        let what = "the pages of a scan";
        allocator::expect_room(self.known.try_reserve(all.len()), what);
        allocator::reserve(&mut self.pages, all.len(), what);
        self.pages.extend(all.into_iter().filter(|&page| self.known.insert(page)));
        self.pages.sort_unstable_by(|a, b| b.cmp(a));
    }
}

/// Returns the heap pointers on a node page; None if it is no longer the page that its hub named.
fn node_pointers(index: &Index, page: NodePageRef) -> Option<Vec<HeapPointer>> {
    index.node_page(page, Access::Share).map(|page| page.nodes().heap_pointers().collect())
}
