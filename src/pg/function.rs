//! Whether a function of the catalogs is one of this library's own: decided by the code that it runs, never by its name.
//!
//! Anybody may call a function of his own `embedding_of` and create it in any schema. Only a superuser can create one
//! that runs code of this library; and for him CREATE EXTENSION may have put ours into any schema.

use super::encoding;
use pgrx::pg_sys;
use std::ffi::CStr;

// The entry points that pgrx makes for the functions of these names; CREATE FUNCTION in sql/ refers to them.
unsafe extern "C-unwind" {
    fn embedding_of_model_wrapper(call: pg_sys::FunctionCallInfo) -> pg_sys::Datum;
    fn leann_handler_wrapper(call: pg_sys::FunctionCallInfo) -> pg_sys::Datum;
}

/// The functions that others are recognized by.
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

/// Whether the function `oid` runs the code of `own`. False where there is no such function.
pub fn is(oid: pg_sys::Oid, own: Own) -> bool {
    if language(oid) != Some(LANGUAGE_C) {
        return false;
    }
    let mut info = pg_sys::FmgrInfo::default();
    // SAFETY: fills in `info` for a function that exists. One of language C is looked up in the server's own table of
    // those that it has called, or its library is loaded.
    unsafe { pg_sys::fmgr_info(oid, &mut info) };
    info.fn_addr.is_some_and(|code| std::ptr::fn_addr_eq(code, own.code()))
}

/// The name of a function with its schema and the types of its arguments, where they are needed to tell it from others.
pub fn name(oid: pg_sys::Oid) -> String {
    // SAFETY: takes any oid; the result is a palloc'd C string.
    let name = unsafe { CStr::from_ptr(pg_sys::format_procedure_qualified(oid)) };
    encoding::utf8_lossy(name.to_bytes()).into_owned()
}

fn language(function: pg_sys::Oid) -> Option<u32> {
    // SAFETY: the look-up takes any oid; a tuple found is a row of pg_proc, held until it is released.
    unsafe {
        let cache = pg_sys::SysCacheIdentifier::PROCOID as i32;
        let tuple = pg_sys::SearchSysCache1(cache, pg_sys::Datum::from(function));
        if tuple.is_null() {
            return None;
        }
        let row = pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_proc>();
        let language = (*row).prolang.to_u32();
        pg_sys::ReleaseSysCache(tuple);
        Some(language)
    }
}
