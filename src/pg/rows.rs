//! Reading table rows by heap pointer with a scan's snapshot, and evaluating the index expression on them.
//!
//! The expression is evaluated as the current user, never with the rights of anybody else: as the executor will evaluate
//! the same expression for the rows that the scan returns. Where the user may not see every row, the rows that a policy
//! or a view will hide from him pass through the expression too. Then it must not depend on his session (`closed`), or he
//! could have a function of his own called that is handed the hidden text; and what it says about a row, in messages and
//! errors, is not for him.

use super::closed::{self, Open};
use super::context::{explained, replaced};
use super::function;
use super::relation::Rel;
use super::settings::LocalSettings;
use crate::error::Error;
use crate::sql::embedding::Embedding;
use leann_page::HeapPointer;
use pgrx::pg_sys::errcodes::PgSqlErrorCode;
use pgrx::{FromDatum, pg_sys};

/// Reads rows of an index's table. Must be closed (`close`); after an error the server's abort releases what it holds.
pub struct RowReader {
    fetch: *mut pg_sys::IndexFetchTableData,
    slot: *mut pg_sys::TupleTableSlot,
    estate: *mut pg_sys::EState,
    econtext: *mut pg_sys::ExprContext,
    info: *mut pg_sys::IndexInfo,
    table: Rel,
    /// Blocks of the table when last looked at.
    blocks: u32,
    snapshot: pg_sys::Snapshot,
    index: Rel,
    /// Whether the user may not see every row.
    isolated: bool,
}

impl RowReader {
    /// Prepares reading in the current memory context, which must live until `close`. None when the snapshot is not an
    /// MVCC snapshot: only under one is it certain that a recycled line pointer shows no foreign row.
    ///
    /// # Safety
    /// `snapshot` is registered or active, and stays so until `close`; both relations stay open as long.
    pub unsafe fn open(
        table: Rel,
        index: Rel,
        snapshot: pg_sys::Snapshot,
        isolated: bool,
    ) -> Option<RowReader> {
        // SAFETY: by the caller's promise the snapshot is live.
        let kind = unsafe { (*snapshot).snapshot_type };
        if kind != pg_sys::SnapshotType::SNAPSHOT_MVCC {
            return None;
        }
        let _settings = isolated.then(settings_in_isolation);
        // SAFETY: plain server calls on open relations; everything is allocated in the current context.
        unsafe {
            let stored = if isolated { stored_expressions(index) } else { std::ptr::null_mut() };
            if let Some(open) = closed::open_part(stored.cast()) {
                raise_open(index, open);
            }
            let info = pg_sys::BuildIndexInfo(index.raw());
            if isolated {
                (*info).ii_Expressions = stored;
            }
            let estate = pg_sys::CreateExecutorState();
            let econtext = pg_sys::MakePerTupleExprContext(estate);
            let slot = pg_sys::table_slot_create(table.raw(), std::ptr::null_mut());
            (*econtext).ecxt_scantuple = slot;
            Some(RowReader {
                fetch: pg_sys::table_index_fetch_begin(table.raw()),
                slot,
                estate,
                econtext,
                info,
                table,
                blocks: 0,
                snapshot,
                index,
                isolated,
            })
        }
    }

    /// Whether it was opened for a user who may not see every row.
    pub fn is_isolated(&self) -> bool {
        self.isolated
    }

    /// What must be alive while rows are read. Made once for many rows.
    pub fn surroundings(&self) -> Option<LocalSettings> {
        self.isolated.then(settings_in_isolation)
    }

    /// Whether a row can be at `pointer` at all. Reading one beyond the end of the table would be an error of the storage
    /// that says nothing of the index that the pointer came from. (The table cannot shrink under a scan's lock.)
    pub fn in_table(&mut self, pointer: HeapPointer) -> bool {
        if pointer.block >= self.blocks {
            self.blocks = self.table.blocks();
        }
        pointer.block < self.blocks
    }

    /// Tells the storage that these rows will be read soon.
    pub fn prefetch(&self, pointers: &[HeapPointer]) {
        for pointer in pointers {
            // SAFETY: the relation is open.
            unsafe {
                pg_sys::PrefetchBuffer(self.table.raw(), pg_sys::ForkNumber::MAIN_FORKNUM, pointer.block)
            };
        }
    }

    /// The value of the index expression for the row version at `pointer` (or of its HOT chain) that the snapshot sees;
    /// None when it sees none, or the value is NULL.
    pub fn read(&mut self, pointer: HeapPointer) -> Option<Embedding> {
        let mut tid = pg_sys::ItemPointerData {
            ip_blkid: pg_sys::BlockIdData {
                bi_hi: (pointer.block >> 16) as u16,
                bi_lo: (pointer.block & 0xffff) as u16,
            },
            ip_posid: pointer.offset,
        };
        let mut call_again = false;
        loop {
            // SAFETY: fetch, slot and snapshot are live until `close`; `tid` is a local copy, because the call
            // overwrites it with the member of the HOT chain that it found.
            let found = unsafe {
                pg_sys::table_index_fetch_tuple(
                    self.fetch,
                    &mut tid,
                    self.snapshot,
                    self.slot,
                    &mut call_again,
                    std::ptr::null_mut(),
                )
            };
            if found {
                return self.evaluate();
            }
            if !call_again {
                return None;
            }
        }
    }

    /// Evaluates the index expression on the row in the slot.
    fn evaluate(&mut self) -> Option<Embedding> {
        let index = self.index;
        if !self.isolated {
            let say = || format!("It was raised by the expression of index \"{}\".", index.name());
            return explained(&say, || self.form());
        }
        replaced(
            |code| silenced(code, index),
            || {
                let _quiet = Quiet::now();
                self.form()
            },
        )
    }

    fn form(&mut self) -> Option<Embedding> {
        let mut values = [pg_sys::Datum::from(0usize); 1];
        let mut nulls = [true; 1];
        // SAFETY: an index of this access method has one key column, so one value is written. Evaluation happens in
        // the per-tuple context, which is reset once the value is copied out.
        unsafe {
            let former = pg_sys::MemoryContextSwitchTo((*self.econtext).ecxt_per_tuple_memory);
            pg_sys::FormIndexDatum(
                self.info,
                self.slot,
                self.estate,
                values.as_mut_ptr(),
                nulls.as_mut_ptr(),
            );
            let value = Embedding::from_datum(values[0], nulls[0]);
            pg_sys::MemoryContextSwitchTo(former);
            pg_sys::MemoryContextReset((*self.econtext).ecxt_per_tuple_memory);
            value
        }
    }

    /// Lets go of the row last read, so that no pin is held while the model runs.
    pub fn release_row(&mut self) {
        // SAFETY: slot and fetch are live; both calls drop buffer pins only.
        unsafe {
            pg_sys::ExecClearTuple(self.slot);
            pg_sys::table_index_fetch_reset(self.fetch);
        }
    }

    pub fn close(self) {
        // SAFETY: each was made in `open` and is released once.
        unsafe {
            pg_sys::ExecDropSingleTupleTableSlot(self.slot);
            pg_sys::table_index_fetch_end(self.fetch);
            pg_sys::FreeExecutorState(self.estate);
        }
    }
}

/// The index's expressions as pg_index has them. Those that the server keeps for an open index have bodies of SQL functions
/// put in place of their calls, under the search_path of whoever came first.
///
/// # Safety
/// `index` is an open index on an expression, or on a column (then there are none).
unsafe fn stored_expressions(index: Rel) -> *mut pg_sys::List {
    // SAFETY: by the caller's promise; the text is a node tree that the server wrote, and the list is a copy in the
    // current context.
    unsafe {
        let tuple = (*index.raw()).rd_indextuple;
        let mut null = false;
        let expressions = pg_sys::SysCacheGetAttr(
            pg_sys::SysCacheIdentifier::INDEXRELID as i32,
            tuple,
            pg_sys::Anum_pg_index_indexprs as i16,
            &mut null,
        );
        if null {
            return std::ptr::null_mut();
        }
        let text = pg_sys::text_to_cstring(pg_sys::pg_detoast_datum(expressions.cast_mut_ptr()).cast());
        let list = pg_sys::stringToNode(text);
        pg_sys::fix_opfuncids(list.cast());
        list.cast()
    }
}

unsafe extern "C" {
    /// The server's, from tcop/dest.h: where messages go.
    static mut whereToSendOutput: pg_sys::CommandDest::Type;
}

/// While this lives, the client is sent no message: some, such as INFO, no setting keeps back.
struct Quiet(pg_sys::CommandDest::Type);

impl Quiet {
    fn now() -> Quiet {
        // SAFETY: a variable of this process, changed by its one server thread; the former value is put back on drop.
        unsafe {
            let former = whereToSendOutput;
            whereToSendOutput = pg_sys::CommandDest::DestNone;
            Quiet(former)
        }
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        // SAFETY: as above; also right while unwinding, when an error is on its way to the client.
        unsafe { whereToSendOutput = self.0 };
    }
}

/// Nothing is found by the user's search_path, and what functions say about rows he does not hear.
fn settings_in_isolation() -> LocalSettings {
    LocalSettings::set(&[(c"search_path", c"pg_catalog, pg_temp"), (c"client_min_messages", c"error")])
}

/// Whether the expression of an index can be evaluated on rows that the user may not see.
pub fn serves_isolated(index: Rel) -> bool {
    // SAFETY: the index is open.
    unsafe { closed::open_part(stored_expressions(index).cast()).is_none() }
}

fn raise_open(index: Rel, open: Open) -> ! {
    let (what, todo) = match open {
        Open::Function(oid) => {
            let name = function::name(oid);
            let todo = format!(
                "Give the function a path of its own, and so what it calls: ALTER FUNCTION {name} SET search_path = \
                 pg_catalog, pg_temp. If it has one now, DISCARD PLANS."
            );
            (format!("calls function {name}, which finds names where the session can put its own"), todo)
        }
        Open::Other => {
            let todo = "Put that into a function with a search_path of its own.".to_owned();
            ("has a domain or another construct that may call functions of any session's".to_owned(), todo)
        }
    };
    Error::new(
        PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!("index \"{}\" cannot serve a user who may not see every row of its table", index.name()),
    )
    .detail(format!("Its expression {what}, and would be evaluated on hidden rows too."))
    .hint(todo)
    .raise()
}

/// An error of the expression, without what it says: that may be of a hidden row.
fn silenced(code: PgSqlErrorCode, index: Rel) -> Error {
    Error::new(code, format!("the expression of index \"{}\" failed on a row of its table", index.name()))
        .detail("What it said is not shown, because the user may not see every row.")
        .hint("Search as the owner of the table to see it.")
}
