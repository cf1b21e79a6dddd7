//! Statements run through SPI as bytes in the encoding of the database, with parameters. (pgrx's own SPI takes and returns
//! UTF-8, so in other databases it garbles names and values, and it knows nothing of plans.)

use crate::error::Error;
use pgrx::pg_sys::errcodes::PgSqlErrorCode;
use pgrx::{Spi, pg_sys};
use std::ffi::CStr;

/// Runs `f` with a connection to SPI. What statements return lives until then at most.
pub fn connected<R>(f: impl FnOnce() -> R) -> R {
    Spi::connect(|_| f())
}

/// A prepared statement; it lives as long as the connection in which it was made.
pub struct Statement(pg_sys::SPIPlanPtr);

impl Statement {
    /// Prepares a statement with parameters of these types, to be planned once and without looking at their values. An
    /// error of the parser is raised. To be called while connected.
    pub fn prepare(sql: &CStr, types: &[pg_sys::Oid]) -> Statement {
        let options = pg_sys::CURSOR_OPT_GENERIC_PLAN as i32;
        // SAFETY: the text and the types are copied; the length is that of the slice.
        let plan = unsafe {
            pg_sys::SPI_prepare_cursor(sql.as_ptr(), types.len() as i32, types.as_ptr().cast_mut(), options)
        };
        assert!(!plan.is_null(), "SPI is connected");
        Statement(plan)
    }

    /// Whether the planner reads this index for the statement, under the settings of this moment.
    pub fn reads_index(&self, index: pg_sys::Oid) -> bool {
        // SAFETY: the statement is alive. It is not saved, so its plan has no resource owner.
        unsafe {
            let cached = pg_sys::SPI_plan_get_cached_plan(self.0);
            if cached.is_null() {
                return false;
            }
            let found = pgrx::PgList::<pg_sys::PlannedStmt>::from_pg((*cached).stmt_list)
                .iter_ptr()
                .any(|planned| plan_reads(&raw const *(*planned).planTree, index));
            pg_sys::ReleaseCachedPlan(cached, std::ptr::null_mut());
            found
        }
    }

    /// Runs the statement and visits its rows. It writes nothing, and sees what the statement around it sees.
    pub fn for_each_row(&self, parameters: &[pg_sys::Datum], visit: impl FnMut(&Row)) {
        // SAFETY: the statement is alive; without a list of nulls no parameter is one.
        let status = unsafe {
            pg_sys::SPI_execute_plan(self.0, parameters.as_ptr().cast_mut(), std::ptr::null(), true, 0)
        };
        assert_eq!(status, pg_sys::SPI_OK_SELECT as i32, "the statement is a SELECT");
        visit_rows(visit);
    }

    /// The same in steps, for results too large for memory. The statement has no parameters.
    pub fn cursor(&self) -> Cursor<'_> {
        // SAFETY: the statement is alive; a portal without a name gets one of its own. After an error it goes with the
        // transaction.
        let portal = unsafe {
            let (values, nulls) = (std::ptr::null_mut(), std::ptr::null());
            pg_sys::SPI_cursor_open(std::ptr::null(), self.0, values, nulls, true)
        };
        Cursor { portal, _statement: self }
    }
}

/// A statement that is being read step by step.
pub struct Cursor<'a> {
    portal: pg_sys::Portal,
    _statement: &'a Statement,
}

impl Cursor<'_> {
    /// Visits the next rows, at most so many, and frees what the server allocated for them. False at the end.
    pub fn next_rows(&mut self, most: i64, visit: impl FnMut(&Row)) -> bool {
        // SAFETY: the portal is open.
        unsafe { pg_sys::SPI_cursor_fetch(self.portal, true, most as _) };
        visit_rows(visit) > 0
    }
}

impl Drop for Cursor<'_> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: opened in `cursor`, closed once.
            unsafe { pg_sys::SPI_cursor_close(self.portal) };
        }
    }
}

/// Visits the rows of the call of SPI just made, frees them, and returns how many there were.
fn visit_rows(mut visit: impl FnMut(&Row)) -> u64 {
    // SAFETY: the table is that of the call just made, with as many rows as SPI says, and is freed once. `visit` is given
    // rows that borrow from it.
    unsafe {
        let (table, rows) = (pg_sys::SPI_tuptable, pg_sys::SPI_processed);
        if table.is_null() {
            return 0;
        }
        for at in 0..rows as usize {
            visit(&Row { tuple: *(*table).vals.add(at), descriptor: (*table).tupdesc });
        }
        pg_sys::SPI_freetuptable(table);
        rows
    }
}

/// A row that a statement returned.
pub struct Row {
    tuple: pg_sys::HeapTuple,
    descriptor: pg_sys::TupleDesc,
}

impl Row {
    /// The value of a column, counted from 1; None for NULL. It is valid while the row is. What the names in a statement mean
    /// may have changed since it was written, so a column of another type than expected is an ERROR.
    pub fn value(&self, column: i32, expected: pg_sys::Oid) -> Option<pg_sys::Datum> {
        let mut null = true;
        // SAFETY: the descriptor is live; a column that there is not has no type. A domain's values are those of its type.
        if unsafe { pg_sys::getBaseType(pg_sys::SPI_gettypeid(self.descriptor, column)) } != expected {
            Error::new(
                PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                "the definition of the index or of its table changed meanwhile",
            )
            .hint("Try again.")
            .raise();
        }
        // SAFETY: tuple and descriptor belong together; a column that there is not gives NULL.
        let value = unsafe { pg_sys::SPI_getbinval(self.tuple, self.descriptor, column, &mut null) };
        (!null).then_some(value)
    }
}

/// Whether a plan, or a plan below it, is an index scan of this index.
///
/// # Safety
/// `plan` is null or a live plan.
unsafe fn plan_reads(plan: *const pg_sys::Plan, index: pg_sys::Oid) -> bool {
    // SAFETY: by the caller's promise; the cast follows a check of the tag.
    unsafe {
        if plan.is_null() {
            return false;
        }
        let this = (*plan).type_ == pg_sys::NodeTag::T_IndexScan
            && (*plan.cast::<pg_sys::IndexScan>()).indexid == index;
        this || plan_reads((*plan).lefttree, index) || plan_reads((*plan).righttree, index)
    }
}
