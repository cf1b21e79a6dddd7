//! Adds to an error what was being done when it was raised, be it by this library, the server, or a user's
//! function.
//!
//! The server has a list of callbacks for that, but their output is lost where an error passes through Rust.
//! So these functions catch the error and raise it again with another sentence in its DETAIL.

use crate::error::Error;
use pgrx::PgSqlErrorCode;
use pgrx::pg_sys::panic::{CaughtError, ErrorReportWithLevel};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Runs `work`, and adds what `say` returns to the DETAIL of an ERROR that it raises. Interrupts pass
/// unchanged.
pub fn explained<R>(say: &dyn Fn() -> String, work: impl FnOnce() -> R) -> R {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => result,
        Err(panic) => match report_of(panic.as_ref()) {
            Some(report) if !is_of_an_interrupt(report.sql_error_code()) => explain(report, &say()).raise(),
            _ => resume_unwind(panic),
        },
    }
}

/// Runs `work`, and replaces an ERROR that it raises by the one that `other` makes from its SQLSTATE.
pub fn replaced<R>(other: impl FnOnce(PgSqlErrorCode) -> Error, work: impl FnOnce() -> R) -> R {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => result,
        Err(panic) => match report_of(panic.as_ref()) {
            Some(report) => other(report.sql_error_code()).raise(),
            None => resume_unwind(panic),
        },
    }
}

/// Returns the report of an error that unwinds.
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
