//! Reads table rows by heap pointer with a scan's snapshot, and evaluates the index expression on them.
//!
//! The expression is evaluated as the current user, never with other rights, because the executor evaluates
//! the same expression as that user for the rows that the scan returns. Where the user may not see every row,
//! rows that a policy or a view will hide pass through the expression too. Then the expression must be
//! settled (see `settled`), or the user could have it call a function of theirs that receives the hidden
//! text. For the same reason, messages and errors that the expression raises on a row are kept from the user.

use super::context::{explained, replaced};
use super::evaluator::Evaluator;
use super::filter::Filter;
use super::function;
use super::relation::Rel;
use super::settings::LocalSettings;
use super::settled::{self, Unsettled};
use super::tid;
use crate::error::Error;
use leann_page::HeapPointer;
use pgrx::pg_sys::errcodes::PgSqlErrorCode;
use pgrx::{FromDatum, pg_sys};

/// Reads rows of an index's table. Must be closed (`close`); after an error, the server's abort releases what
/// it holds.
pub struct RowReader {
    fetch: *mut pg_sys::IndexFetchTableData,
    /// Its slot holds the row that was read last.
    evaluator: Evaluator,
    table: Rel,
    /// Blocks of the table when they were last counted.
    blocks: u32,
    snapshot: pg_sys::Snapshot,
    index: Rel,
    /// Whether the user may not see every row.
    isolated: bool,
}

impl RowReader {
    /// Prepares reading in the current memory context, which must live until `close`. Returns None unless the
    /// snapshot is an MVCC snapshot: only such a snapshot guarantees that a reused line pointer shows no
    /// other row.
    ///
    /// # Safety
    /// `snapshot` is registered or active, and stays so until `close`; both relations stay open as long.
    pub unsafe fn open(
        table: Rel,
        index: Rel,
        snapshot: pg_sys::Snapshot,
        isolated: bool,
    ) -> Option<RowReader> {
        // SAFETY: the caller promises a live snapshot.
        let kind = unsafe { (*snapshot).snapshot_type };
        if kind != pg_sys::SnapshotType::SNAPSHOT_MVCC {
            return None;
        }
        let _settings = isolated.then(LocalSettings::isolated);
        // SAFETY: the index is open.
        let stored = isolated.then(|| unsafe { stored_expressions(index) });
        // SAFETY: the list is a copy whose operators have their functions' oids.
        let part = stored.and_then(|stored| unsafe { settled::unsettled_part(stored.cast()) });
        if let Some(part) = part {
            raise_unsettled(index, part);
        }
        Some(RowReader {
            evaluator: Evaluator::new(table, index, stored),
            // SAFETY: the relation is open.
            fetch: unsafe { pg_sys::table_index_fetch_begin(table.raw()) },
            table,
            blocks: 0,
            snapshot,
            index,
            isolated,
        })
    }

    /// Returns whether the reader was opened for a user who may not see every row.
    pub fn is_isolated(&self) -> bool {
        self.isolated
    }

    /// Returns the settings that must be in force while rows are read. One value serves many rows.
    pub fn surroundings(&self) -> Option<LocalSettings> {
        self.isolated.then(LocalSettings::isolated)
    }

    /// Returns whether a row can be at `pointer` at all. Reading beyond the end of the table would raise a
    /// storage error that does not name the index with the wrong pointer. (The table cannot shrink under a
    /// scan's lock.)
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

    /// Returns the value of the index expression for the row version at `pointer`, or in its HOT chain, that
    /// the snapshot sees. Returns None if it sees no version, or if the value is NULL.
    pub fn read<T: FromDatum>(&mut self, pointer: HeapPointer) -> Option<T> {
        if self.fetch(pointer) { self.evaluate() } else { None }
    }

    /// Returns whether the snapshot sees a row version at `pointer`, or in its HOT chain, that passes the
    /// filter. Call it without the reader's surroundings: quals are the user's own.
    pub fn passes(&mut self, pointer: HeapPointer, filter: Filter) -> bool {
        // SAFETY: the slot holds a row of the reader's table, which is that of the filter's node.
        self.fetch(pointer) && unsafe { filter.passes(self.evaluator.slot()) }
    }

    /// Puts the row version at `pointer`, or in its HOT chain, that the snapshot sees into the slot. Returns
    /// false if it sees none.
    fn fetch(&mut self, pointer: HeapPointer) -> bool {
        let mut tid = tid::to_server(pointer);
        let mut call_again = false;
        loop {
            // SAFETY: fetch, slot and snapshot are live until `close`; `tid` is a local copy, because the
            // call overwrites it with the member of the HOT chain that it found.
            let found = unsafe {
                pg_sys::table_index_fetch_tuple(
                    self.fetch,
                    &mut tid,
                    self.snapshot,
                    self.evaluator.slot(),
                    &mut call_again,
                    std::ptr::null_mut(),
                )
            };
            if found || !call_again {
                return found;
            }
        }
    }

    /// Evaluates the index expression on the row in the slot.
    fn evaluate<T: FromDatum>(&mut self) -> Option<T> {
        let index = self.index;
        if !self.isolated {
            let say = || format!("It was raised by the expression of index \"{}\".", index.name());
            return explained(&say, || self.evaluator.value());
        }
        replaced(
            |code| without_message(code, index),
            || {
                let _muted = MutedClient::now();
                self.evaluator.value()
            },
        )
    }

    /// Releases the row last read, so that no pin is held while the model runs.
    pub fn release_row(&mut self) {
        // SAFETY: slot and fetch are live; both calls drop buffer pins only.
        unsafe {
            pg_sys::ExecClearTuple(self.evaluator.slot());
            pg_sys::table_index_fetch_reset(self.fetch);
        }
    }

    pub fn close(self) {
        // SAFETY: `open` made it, and it is released once.
        unsafe { pg_sys::table_index_fetch_end(self.fetch) };
        self.evaluator.close();
    }
}

/// Returns the index's expressions as pg_index stores them. In the expressions that the server caches for an
/// open index, calls of SQL functions may have been replaced by the functions' bodies, under the search_path
/// of the session's first use.
///
/// # Safety
/// `index` is an open index on an expression, or on a column (then there are none).
unsafe fn stored_expressions(index: Rel) -> *mut pg_sys::List {
    // SAFETY: the caller promises an open index; the text is a node tree that the server wrote, and the list
    // is a copy in the current context.
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
    /// Declared in the server's tcop/dest.h: where messages go.
    static mut whereToSendOutput: pg_sys::CommandDest::Type;
}

/// While this lives, no message is sent to the client. A setting does not suffice: some levels, such as INFO,
/// are always sent.
struct MutedClient(pg_sys::CommandDest::Type);

impl MutedClient {
    fn now() -> MutedClient {
        // SAFETY: a variable of this process that only its one server thread changes; the former value is put
        // back on drop.
        unsafe {
            let former = whereToSendOutput;
            whereToSendOutput = pg_sys::CommandDest::DestNone;
            MutedClient(former)
        }
    }
}

impl Drop for MutedClient {
    fn drop(&mut self) {
        // SAFETY: as above. It is also right while unwinding, when an error is on its way to the client.
        unsafe { whereToSendOutput = self.0 };
    }
}

/// Returns whether the expression of an index may be evaluated on rows that the user may not see.
pub fn serves_isolated(index: Rel) -> bool {
    // SAFETY: the index is open.
    unsafe { settled::unsettled_part(stored_expressions(index).cast()).is_none() }
}

/// Raises the ERROR for an expression that is not settled.
fn raise_unsettled(index: Rel, part: Unsettled) -> ! {
    let (what, todo) = match part {
        Unsettled::Function(oid) => {
            let name = function::name(oid);
            let todo = format!(
                "Set a search_path on the function and on those that it calls: ALTER FUNCTION {name} SET \
                 search_path = pg_catalog, pg_temp. If it already has one, run DISCARD PLANS."
            );
            (format!("calls function {name}, which can resolve names to the session's own objects"), todo)
        }
        Unsettled::Other => {
            let todo = "Move it into a function that sets its own search_path.".to_owned();
            ("has a domain or another construct that may call the session's own functions".to_owned(), todo)
        }
    };
    Error::new(
        PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!("index \"{}\" cannot serve a user who may not see every row of its table", index.name()),
    )
    .detail(format!("Its expression {what}. It would be evaluated on hidden rows too."))
    .hint(todo)
    .raise()
}

/// Returns an error of the expression without its message, which may show a hidden row.
fn without_message(code: PgSqlErrorCode, index: Rel) -> Error {
    Error::new(code, format!("the expression of index \"{}\" failed on a row of its table", index.name()))
        .detail("The original message is withheld because the user may not see every row.")
        .hint("Search as the owner of the table to see it.")
}
