//! What was being done when an error struck, be it raised by us, the server, or a function of the user's.
//!
//! The server has a list of callbacks for that, but what they add is lost where an error passes through Rust. So an error is caught on its
//! way, and goes on with another sentence in its DETAIL.

use crate::error::Error;
use pgrx::PgSqlErrorCode;
use pgrx::pg_sys::panic::{CaughtError, ErrorReportWithLevel};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Runs `work`. An ERROR that it raises says also what `say` gives, unless it is an interrupt's.
pub fn explained<R>(say: &dyn Fn() -> String, work: impl FnOnce() -> R) -> R {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => result,
        Err(panic) => match report_of(panic.as_ref()) {
            Some(report) if !is_of_an_interrupt(report.sql_error_code()) => explain(report, &say()).raise(),
            _ => resume_unwind(panic),
        },
    }
}

/// Runs `work`. An ERROR that it raises is replaced by another of the same code.
pub fn replaced<R>(other: impl FnOnce(PgSqlErrorCode) -> Error, work: impl FnOnce() -> R) -> R {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => result,
        Err(panic) => match report_of(panic.as_ref()) {
            Some(report) => other(report.sql_error_code()).raise(),
            None => resume_unwind(panic),
        },
    }
}

/// The report of an error that unwinds.
fn report_of(panic: &(dyn Any + Send)) -> Option<&ErrorReportWithLevel> {
    match panic.downcast_ref() {
        Some(CaughtError::PostgresError(report) | CaughtError::ErrorReport(report)) => Some(report),
        Some(CaughtError::RustPanic { ereport, .. }) => Some(ereport),
        None => panic.downcast_ref(),
    }
}

fn is_of_an_interrupt(code: PgSqlErrorCode) -> bool {
    use PgSqlErrorCode::*;
    matches!(code, ERRCODE_QUERY_CANCELED | ERRCODE_ADMIN_SHUTDOWN | ERRCODE_CRASH_SHUTDOWN)
}

fn explain(report: &ErrorReportWithLevel, sentence: &str) -> Error {
    let mut error = Error::new(report.sql_error_code(), report.message().to_owned());
    if let Some(detail) = report.detail() {
        error = error.detail(detail);
    }
    if let Some(hint) = report.hint() {
        error = error.hint(hint);
    }
    error.also(sentence)
}
