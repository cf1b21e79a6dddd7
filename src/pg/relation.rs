//! A handle on an open relation that its opener keeps open, and an index that opens and closes by itself.

use crate::encoding;
use pgrx::pg_sys;
use std::ffi::CStr;

/// The server's InvalidSubTransactionId.
const NO_SUBTRANSACTION: pg_sys::SubTransactionId = 0;

/// An open, locked relation. The server (or an [`OpenIndex`]) keeps it open for as long as the handle is
/// used.
#[derive(Clone, Copy)]
pub struct Rel(pg_sys::Relation);

impl Rel {
    /// Wraps an open relation.
    ///
    /// # Safety
    /// `raw` is an open relation, locked in a mode that fits what will be done with it, and stays so while
    /// the handle or a copy of it is in use.
    pub unsafe fn from_raw(raw: pg_sys::Relation) -> Rel {
        debug_assert!(!raw.is_null());
        Rel(raw)
    }

    pub fn raw(self) -> pg_sys::Relation {
        self.0
    }

    pub fn oid(self) -> pg_sys::Oid {
        // SAFETY: the relation is open (invariant of the type).
        unsafe { (*self.0).rd_id }
    }

    /// Returns the relation's name without its schema, for error messages.
    pub fn name(self) -> String {
        // SAFETY: an open relation has its pg_class row, whose name is NUL-terminated.
        let name = unsafe { CStr::from_ptr((*(*self.0).rd_rel).relname.data.as_ptr()) };
        encoding::utf8_lossy(name.to_bytes()).into_owned()
    }

    /// Returns the table that an index is on.
    pub fn table_oid(self) -> pg_sys::Oid {
        // SAFETY: an open index has its pg_index row.
        unsafe { (*(*self.0).rd_index).indrelid }
    }

    /// Returns the present number of blocks of the main fork.
    pub fn blocks(self) -> u32 {
        self.blocks_in(pg_sys::ForkNumber::MAIN_FORKNUM)
    }

    /// Returns the present number of blocks of a fork.
    pub fn blocks_in(self, fork: pg_sys::ForkNumber::Type) -> u32 {
        // SAFETY: the relation is open.
        unsafe { pg_sys::RelationGetNumberOfBlocksInFork(self.0, fork) }
    }

    /// Returns whether changes to the relation must be WAL-logged (false for unlogged and temporary
    /// relations, and for one that was created in this transaction under `wal_level = minimal`).
    pub fn needs_wal(self) -> bool {
        // SAFETY: the relation is open; this is the server's RelationNeedsWAL written out.
        unsafe {
            let skipped = pg_sys::wal_level < pg_sys::WalLevel::WAL_LEVEL_REPLICA as i32
                && ((*self.0).rd_createSubid != NO_SUBTRANSACTION || first_storage_in_transaction(self.0));
            self.is_permanent() && !skipped
        }
    }

    /// Returns whether the relation is neither unlogged nor temporary.
    pub fn is_permanent(self) -> bool {
        // SAFETY: an open relation has its pg_class row.
        unsafe { (*(*self.0).rd_rel).relpersistence == pg_sys::RELPERSISTENCE_PERMANENT as std::ffi::c_char }
    }

    /// Returns whether the relation is a temporary one of this session.
    pub fn is_temporary(self) -> bool {
        // SAFETY: an open relation has its pg_class row.
        unsafe { (*(*self.0).rd_rel).relpersistence == pg_sys::RELPERSISTENCE_TEMP as std::ffi::c_char }
    }

    /// Returns the number of the relation's present file.
    pub fn file_number(self) -> u32 {
        // SAFETY: the relation is open.
        let number = unsafe { file_number(self.0) };
        number.into()
    }

    /// Returns the owner of the relation.
    pub fn owner(self) -> pg_sys::Oid {
        // SAFETY: an open relation has its pg_class row.
        unsafe { (*(*self.0).rd_rel).relowner }
    }

    /// Returns the planner's estimate of the table's rows, from the last count and the table's present size.
    pub fn rows_estimate(self) -> f64 {
        let (mut pages, mut rows, mut visible) = (0, 0.0, 0.0);
        // SAFETY: the relation is an open table; the results go to local variables, and the widths of columns
        // may be left out.
        unsafe {
            pg_sys::table_relation_estimate_size(
                self.0,
                std::ptr::null_mut(),
                &raw mut pages,
                &raw mut rows,
                &raw mut visible,
            )
        };
        rows
    }
}

/// Returns whether the relation's present storage was made in this transaction.
///
/// # Safety
/// `rel` is an open relation.
#[cfg(feature = "pg15")]
unsafe fn first_storage_in_transaction(rel: pg_sys::Relation) -> bool {
    // SAFETY: the caller promises an open relation.
    unsafe { (*rel).rd_firstRelfilenodeSubid != NO_SUBTRANSACTION }
}

/// Returns whether the relation's present storage was made in this transaction.
///
/// # Safety
/// `rel` is an open relation.
#[cfg(not(feature = "pg15"))]
unsafe fn first_storage_in_transaction(rel: pg_sys::Relation) -> bool {
    // SAFETY: the caller promises an open relation.
    unsafe { (*rel).rd_firstRelfilelocatorSubid != NO_SUBTRANSACTION }
}

/// Returns whether no relation has this oid: it may have been dropped since it was looked up.
pub fn is_gone(oid: pg_sys::Oid) -> bool {
    // SAFETY: takes any oid.
    unsafe { pg_sys::get_rel_relkind(oid) == 0 }
}

/// Returns the number of the relation's present file.
///
/// # Safety
/// `rel` is an open relation.
#[cfg(feature = "pg15")]
unsafe fn file_number(rel: pg_sys::Relation) -> pg_sys::Oid {
    // SAFETY: the caller promises an open relation.
    unsafe { (*rel).rd_node.relNode }
}

/// Returns the number of the relation's present file.
///
/// # Safety
/// `rel` is an open relation.
#[cfg(not(feature = "pg15"))]
unsafe fn file_number(rel: pg_sys::Relation) -> pg_sys::RelFileNumber {
    // SAFETY: the caller promises an open relation.
    unsafe { (*rel).rd_locator.relNumber }
}

/// An index opened by an SQL function, with its table. Both are closed on drop; their locks stay to the end
/// of the transaction.
pub struct OpenIndex {
    index: pg_sys::Relation,
    table: pg_sys::Relation,
}

impl OpenIndex {
    /// Opens the index `oid` and its table with AccessShareLock. Returns None if `oid` is no index.
    pub fn open(oid: pg_sys::Oid) -> Option<OpenIndex> {
        // SAFETY: the calls take any oid; the table is locked before its index, which is the server's order.
        unsafe {
            if pg_sys::get_rel_relkind(oid) as u8 != pg_sys::RELKIND_INDEX {
                return None;
            }
            let table_oid = pg_sys::IndexGetRelation(oid, true);
            if table_oid == pg_sys::InvalidOid {
                return None;
            }
            let table = pg_sys::table_open(table_oid, pg_sys::AccessShareLock as i32);
            let index = pg_sys::index_open(oid, pg_sys::AccessShareLock as i32);
            Some(OpenIndex { index, table })
        }
    }

    pub fn index(&self) -> Rel {
        Rel(self.index)
    }

    pub fn table(&self) -> Rel {
        Rel(self.table)
    }
}

impl Drop for OpenIndex {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: `open` opened both, and each is closed once.
            unsafe {
                pg_sys::index_close(self.index, pg_sys::NoLock as i32);
                pg_sys::table_close(self.table, pg_sys::NoLock as i32);
            }
        }
    }
}
