//! Decides whether a function of the catalogs is one of this library's own, by the code that it runs and
//! never by its name.
//!
//! Any user may create a function called `embedding_of` in any schema. Only a superuser can create one that
//! runs code of this library, and CREATE EXTENSION may have put this library's functions into any schema.

use super::catalog;
use crate::encoding;
use pgrx::pg_sys;
use std::ffi::CStr;

// The entry points that pgrx makes for the functions of these names; CREATE FUNCTION in sql/ refers to them.
unsafe extern "C-unwind" {
    fn embedding_of_model_wrapper(call: pg_sys::FunctionCallInfo) -> pg_sys::Datum;
    fn leann_handler_wrapper(call: pg_sys::FunctionCallInfo) -> pg_sys::Datum;
}

/// The functions that mark an object as one of this extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Own {
    /// `embedding_of(text, model)`.
    EmbeddingOfModel,
    /// The handler of the access method.
    Handler,
}

impl Own {
    fn code(self) -> unsafe extern "C-unwind" fn(pg_sys::FunctionCallInfo) -> pg_sys::Datum {
        match self {
            Own::EmbeddingOfModel => embedding_of_model_wrapper,
            Own::Handler => leann_handler_wrapper,
        }
    }
}

/// The server's `ClanguageId`.
const LANGUAGE_C: u32 = 13;

/// Returns whether the function `oid` runs the code of `own`. Returns false if there is no such function.
pub fn is(oid: pg_sys::Oid, own: Own) -> bool {
    if language(oid) != Some(LANGUAGE_C) {
        return false;
    }
    let mut info = pg_sys::FmgrInfo::default();
    // SAFETY: fills in `info` for a function that exists. The server looks up one of language C in its table
    // of functions already called, or loads the function's library.
    unsafe { pg_sys::fmgr_info(oid, &mut info) };
    info.fn_addr.is_some_and(|code| std::ptr::fn_addr_eq(code, own.code()))
}

/// Returns the name of a function with its schema and with the types of its arguments.
pub fn name(oid: pg_sys::Oid) -> String {
    // SAFETY: takes any oid; the result is a palloc'd C string.
    let name = unsafe { CStr::from_ptr(pg_sys::format_procedure_qualified(oid)) };
    encoding::utf8_lossy(name.to_bytes()).into_owned()
}

/// Returns the language that a function is written in.
fn language(function: pg_sys::Oid) -> Option<u32> {
    catalog::function(function).map(|row| row.prolang.to_u32())
}
