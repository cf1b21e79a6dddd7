//! Runs statements with parameters through SPI, as bytes in the encoding of the database. (pgrx's own SPI
//! takes and returns UTF-8, which garbles names and values in databases of other encodings, and gives no
//! access to plans.)

use crate::error::Error;
use pgrx::pg_sys::errcodes::PgSqlErrorCode;
use pgrx::{Spi, pg_sys};
use std::ffi::CStr;

/// Runs `f` with a connection to SPI. What statements return lives until the connection ends at most.
pub fn connected<R>(f: impl FnOnce() -> R) -> R {
    Spi::connect(|_| f())
}

/// A prepared statement. It lives as long as the connection in which it was made.
pub struct Statement(pg_sys::SPIPlanPtr);

impl Statement {
    /// Prepares a statement with parameters of these types, which is planned once and without regard to their
    /// values. Raises errors of the parser. Call it while connected.
    pub fn prepare(sql: &CStr, types: &[pg_sys::Oid]) -> Statement {
        let options = pg_sys::CURSOR_OPT_GENERIC_PLAN as i32;
        // SAFETY: the text and the types are copied; the length is that of the slice.
        let plan = unsafe {
            pg_sys::SPI_prepare_cursor(sql.as_ptr(), types.len() as i32, types.as_ptr().cast_mut(), options)
        };
        assert!(!plan.is_null(), "SPI is connected");
        Statement(plan)
    }

    /// Returns whether the plan that the statement has under the present settings reads this index.
    pub fn reads_index(&self, index: pg_sys::Oid) -> bool {
        // SAFETY: the statement is live. It is not saved, so its plan has no resource owner.
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

    /// Runs the statement and visits its rows. It writes nothing, and sees what the surrounding statement
    /// sees.
    pub fn for_each_row(&self, parameters: &[pg_sys::Datum], visit: impl FnMut(&Row)) {
        // SAFETY: the statement is live; without a list of nulls no parameter is NULL.
        let status = unsafe {
            pg_sys::SPI_execute_plan(self.0, parameters.as_ptr().cast_mut(), std::ptr::null(), true, 0)
        };
        assert_eq!(status, pg_sys::SPI_OK_SELECT as i32, "the statement is a SELECT");
        visit_rows(visit);
    }

    /// Opens a cursor on the statement, for results too large for memory. The statement has no parameters.
    pub fn cursor(&self) -> Cursor<'_> {
        // SAFETY: the statement is live; a portal without a name gets a unique one. After an error it is
        // dropped with the transaction.
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
    /// Visits the next rows, at most `most`, and frees the memory that the server allocated for them. Returns
    /// false at the end.
    pub fn next_rows(&mut self, most: i64, visit: impl FnMut(&Row)) -> bool {
        // SAFETY: the portal is open.
        unsafe { pg_sys::SPI_cursor_fetch(self.portal, true, most as _) };
        visit_rows(visit) > 0
    }
}

impl Drop for Cursor<'_> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: `cursor` opened it, and it is closed once.
            unsafe { pg_sys::SPI_cursor_close(self.portal) };
        }
    }
}

/// Visits the rows of the latest call of SPI, frees them, and returns their number.
fn visit_rows(mut visit: impl FnMut(&Row)) -> u64 {
    // SAFETY: the table is that of the latest call, with as many rows as SPI says, and is freed once. `visit`
    // is lent rows that borrow from it.
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
    /// Returns the value of a column, counted from 1, or None for NULL. It is valid while the row is. The
    /// objects that the statement names may have changed since its text was written, so a column of another
    /// type than expected is an ERROR.
    pub fn value(&self, column: i32, expected: pg_sys::Oid) -> Option<pg_sys::Datum> {
        let mut null = true;
        // SAFETY: the descriptor is live; a missing column has no type. A domain's values are those of its
        // base type.
        if unsafe { pg_sys::getBaseType(pg_sys::SPI_gettypeid(self.descriptor, column)) } != expected {
            Error::new(
                PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                "the definition of the index or of its table has changed concurrently",
            )
            .hint("Run the statement again.")
            .raise();
        }
        // SAFETY: tuple and descriptor belong together; a missing column gives NULL.
        let value = unsafe { pg_sys::SPI_getbinval(self.tuple, self.descriptor, column, &mut null) };
        (!null).then_some(value)
    }
}

/// Returns whether a plan, or a plan below it, is an index scan of this index.
///
/// # Safety
/// `plan` is null or a live plan.
unsafe fn plan_reads(plan: *const pg_sys::Plan, index: pg_sys::Oid) -> bool {
    // SAFETY: the caller promises a live plan; the cast follows a check of the tag.
    unsafe {
        if plan.is_null() {
            return false;
        }
        let this = (*plan).type_ == pg_sys::NodeTag::T_IndexScan
            && (*plan.cast::<pg_sys::IndexScan>()).indexid == index;
        this || plan_reads((*plan).lefttree, index) || plan_reads((*plan).righttree, index)
    }
}
