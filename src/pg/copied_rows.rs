//! Reads rows that COPY has put into a table and not yet into its indexes. COPY inserts rows into the table
//! by the hundred, and only then hands them to the indexes one by one: so an index can see what comes next.

use super::context::explained;
use super::evaluator::Evaluator;
use super::heap_page::HeapPage;
use super::relation::Rel;
use super::tid;
use leann_page::HeapPointer;
use pgrx::{FromDatum, pg_sys};

/// The most blocks of a table that are looked at.
const MAX_BLOCKS: u32 = 64;

/// Calls `take` with the values of an index's expression for rows that the current command has inserted at
/// higher places than `row`: with their heap pointers, in ascending order, until it returns false. Rows whose
/// value is NULL, or that do not belong into a partial index, are left out, and all if the table is not a
/// heap.
pub fn following<T: FromDatum>(
    table: Rel,
    index: Rel,
    row: HeapPointer,
    mut take: impl FnMut(HeapPointer, T) -> bool,
) {
    let mut evaluator = None;
    'blocks: for block in row.block..table.blocks().min(row.block.saturating_add(MAX_BLOCKS)) {
        let first = if block == row.block { row.offset + 1 } else { 1 };
        let Some(page) = HeapPage::read(table, block) else { break };
        let tuples = inserted_now(page, first);
        if tuples.is_empty() && block > row.block {
            break;
        }
        for tuple in tuples {
            let evaluator = evaluator.get_or_insert_with(|| Evaluator::new(table, index, None));
            // SAFETY: the tuple is a copy of a row of the table.
            let (pointer, value) =
                unsafe { (tid::read(&raw mut (*tuple).t_self), value_of(evaluator, index, tuple)) };
            if value.is_some_and(|value| !take(pointer, value)) {
                break 'blocks;
            }
        }
    }
    if let Some(evaluator) = evaluator {
        evaluator.close();
    }
}

/// Returns copies of the rows on a page that the current command has inserted, from a line on, in the current
/// memory context.
fn inserted_now(page: HeapPage, first: u16) -> Vec<pg_sys::HeapTuple> {
    // SAFETY: plain reads of this backend's transaction.
    let now = unsafe { (pg_sys::GetCurrentTransactionIdIfAny(), pg_sys::GetCurrentCommandId(false)) };
    let rows = (first..=page.lines()).filter_map(|offset| page.row(offset));
    // SAFETY: the row lies on the page, which is locked until it is copied.
    let copied = rows.filter_map(|mut row| unsafe {
        let header = row.t_data;
        let mask = u32::from((*header).t_infomask);
        let inserted = ((*header).t_choice.t_heap.t_xmin, (*header).t_choice.t_heap.t_field3.t_cid);
        let is_new =
            inserted == now && mask & pg_sys::HEAP_COMBOCID == 0 && mask & pg_sys::HEAP_XMAX_INVALID != 0;
        is_new.then(|| pg_sys::heap_copytuple(&raw mut row))
    });
    copied.collect()
}

/// Returns the value of the index expression on a row; None for NULL, and for a row that does not belong into
/// a partial index.
///
/// # Safety
/// `tuple` is a row of the evaluator's table that lives until the next call.
unsafe fn value_of<T: FromDatum>(
    evaluator: &mut Evaluator,
    index: Rel,
    tuple: pg_sys::HeapTuple,
) -> Option<T> {
    let say = || {
        // SAFETY: the caller promises a row.
        let HeapPointer { block, offset } = unsafe { tid::read(&raw mut (*tuple).t_self) };
        let index = index.name();
        format!(
            "It was raised by the expression of index \"{index}\" for the row at ctid ({block},{offset})."
        )
    };
    explained(&say, || {
        // SAFETY: the caller promises a row of the slot's table.
        unsafe {
            pg_sys::ExecForceStoreHeapTuple(tuple, evaluator.slot(), false);
            (*evaluator.slot()).tts_tableOid = (*tuple).t_tableOid;
        }
        evaluator.is_indexed().then(|| evaluator.value()).flatten()
    })
}
