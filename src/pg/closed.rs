//! Whether what an index expression does is settled, or depends on the session that evaluates it.
//!
//! A function of a language that looks up names when it runs finds them by the session's search_path; one of PL/pgSQL does so
//! once, when the session calls it first, whatever the path is later. So whoever calls it first can put functions and types of
//! his own where its author meant others, and is handed what it is given. That is his right where he may see the rows. Where
//! he may not, only functions will do that no session can change: compiled ones, the server's own, and those with a
//! search_path of their own.

use pgrx::datum::FromDatum;
use pgrx::{Array, pg_sys};
use std::ffi::c_void;

/// The server's `INTERNALlanguageId` and `ClanguageId`: languages in which names were looked up by a compiler.
const COMPILED: [u32; 2] = [12, 13];

/// What in an expression is not settled.
pub enum Open {
    Function(pg_sys::Oid),
    /// A check of a domain.
    Domain,
}

/// The first part of an expression, or of a list of them, that is not settled.
///
/// # Safety
/// `expression` is null, or a live node tree whose operators have their functions' oids.
pub unsafe fn open_part(expression: *mut pg_sys::Node) -> Option<Open> {
    let mut found: Option<Open> = None;
    // SAFETY: by the caller's promise; the walker gets the Option above.
    unsafe { find_open(expression, (&raw mut found).cast()) };
    found
}

/// An expression walker, which ends at the first open part.
#[pgrx::pg_guard]
unsafe extern "C-unwind" fn find_open(node: *mut pg_sys::Node, found: *mut c_void) -> bool {
    if node.is_null() {
        return false;
    }
    // SAFETY: nodes come from the server with true tags; `found` points to the Option of `open_part`.
    unsafe {
        if (*node).type_ == pg_sys::NodeTag::T_CoerceToDomain {
            *(found as *mut Option<Open>) = Some(Open::Domain);
            return true;
        }
        pg_sys::check_functions_in_node(node, Some(is_open), found)
            || pg_sys::expression_tree_walker(node, Some(find_open), found)
    }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn is_open(function: pg_sys::Oid, found: *mut c_void) -> bool {
    let open = !is_settled(function);
    if open {
        // SAFETY: as in `find_open`.
        unsafe { *(found as *mut Option<Open>) = Some(Open::Function(function)) };
    }
    open
}

fn is_settled(function: pg_sys::Oid) -> bool {
    const CACHE: i32 = pg_sys::SysCacheIdentifier::PROCOID as i32;
    // SAFETY: the look-up takes any oid; a tuple found is a row of pg_proc, held while its columns are read. The settings are
    // an array of texts, of which only the bytes are looked at.
    unsafe {
        let tuple = pg_sys::SearchSysCache1(CACHE, function.into());
        if tuple.is_null() {
            return false;
        }
        let row = pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_proc>();
        let servers = (*row).pronamespace.to_u32() == pg_sys::PG_CATALOG_NAMESPACE;
        let compiled = COMPILED.contains(&(*row).prolang.to_u32());
        let mut null = true;
        let column = pg_sys::Anum_pg_proc_proconfig as pg_sys::AttrNumber;
        let settings = pg_sys::SysCacheGetAttr(CACHE, tuple, column, &mut null);
        let settled = servers
            || compiled
            || Array::<&[u8]>::from_datum(settings, null).is_some_and(|settings| {
                settings.iter().flatten().any(|setting| setting.starts_with(b"search_path="))
            });
        pg_sys::ReleaseSysCache(tuple);
        settled
    }
}
