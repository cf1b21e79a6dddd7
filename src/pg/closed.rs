//! Whether what an index expression does is settled, or depends on the session that evaluates it.
//!
//! A function of a language that looks up names when it runs finds them by the session's search_path; one of PL/pgSQL does so
//! once, when the session calls it first, whatever the path is later. So whoever calls it first can put functions and types of
//! his own where its author meant others, and is handed what it is given. That is his right where he may see the rows. Where
//! he may not, only functions will do that no session can change: compiled ones, the server's own, and those of SQL and
//! PL/pgSQL with a search_path of their own that leads to no place of his. What these call in turn is their author's affair.

use super::rights::Asker;
use pgrx::datum::FromDatum;
use pgrx::{Array, PgList, pg_sys};
use std::ffi::{CStr, CString, c_char, c_void};

/// The server's `INTERNALlanguageId` and `ClanguageId`: languages in which names were looked up by a compiler.
const COMPILED: [u32; 2] = [12, 13];
/// The server's `SQLlanguageId`.
const SQL: u32 = 14;

/// What in an expression is not settled.
pub enum Open {
    Function(pg_sys::Oid),
    /// A check of a domain, or a construct that nobody has looked at.
    Other,
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
        if !is_transparent((*node).type_) {
            *(found as *mut Option<Open>) = Some(Open::Other);
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

/// Constructs that call nothing but the functions which `check_functions_in_node` shows.
fn is_transparent(tag: pg_sys::NodeTag) -> bool {
    use pg_sys::NodeTag::*;
    matches!(
        tag,
        T_List
            | T_Var
            | T_Const
            | T_FuncExpr
            | T_NamedArgExpr
            | T_OpExpr
            | T_DistinctExpr
            | T_NullIfExpr
            | T_ScalarArrayOpExpr
            | T_BoolExpr
            | T_FieldSelect
            | T_RelabelType
            | T_CoerceViaIO
            | T_ArrayCoerceExpr
            | T_CollateExpr
            | T_CaseExpr
            | T_CaseWhen
            | T_CaseTestExpr
            | T_ArrayExpr
            | T_RowExpr
            | T_RowCompareExpr
            | T_CoalesceExpr
            | T_NullTest
            | T_BooleanTest
            | T_SubscriptingRef
    )
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
        let language = (*row).prolang;
        let mut null = true;
        let column = pg_sys::Anum_pg_proc_proconfig as pg_sys::AttrNumber;
        let settings = pg_sys::SysCacheGetAttr(CACHE, tuple, column, &mut null);
        let path: Option<Vec<u8>> = Array::<&[u8]>::from_datum(settings, null).and_then(|settings| {
            settings
                .iter()
                .flatten()
                .find_map(|setting| Some(setting.strip_prefix(b"search_path=")?.to_vec()))
        });
        pg_sys::ReleaseSysCache(tuple);
        servers
            || COMPILED.contains(&language.to_u32())
            || (looks_up_names_by_path(language)
                && path.is_some_and(|path| leads_to_no_place_of(Asker::now(), path)))
    }
}

/// Of other languages it is not known what else a session can change.
fn looks_up_names_by_path(language: pg_sys::Oid) -> bool {
    // SAFETY: a look-up by a C string.
    language.to_u32() == SQL || language == unsafe { pg_sys::get_language_oid(c"plpgsql".as_ptr(), true) }
}

/// Whether a search path has only schemas in which the asker can create nothing, and the one for temporary objects last: where
/// it is not named, it comes first.
fn leads_to_no_place_of(asker: Asker, path: Vec<u8>) -> bool {
    let Ok(path) = CString::new(path) else { return false };
    let mut names: *mut pg_sys::List = std::ptr::null_mut();
    // SAFETY: the string is ours to be cut into pieces, which live as long as it does.
    let names: Vec<&CStr> = unsafe {
        let raw = pg_sys::pstrdup(path.as_ptr());
        if !pg_sys::SplitIdentifierString(raw, b',' as c_char, &mut names) {
            return false;
        }
        PgList::<c_char>::from_pg(names).iter_ptr().map(|name| CStr::from_ptr(name)).collect()
    };
    let Some((last, others)) = names.split_last() else { return false };
    *last == c"pg_temp" && others.iter().all(|name| *name == c"pg_catalog" || is_foreign(asker, name))
}

/// Whether there is such a schema, and the asker can create nothing in it.
fn is_foreign(asker: Asker, schema: &CStr) -> bool {
    // SAFETY: look-ups by a C string, and by the oid that was found.
    unsafe {
        let schema = pg_sys::get_namespace_oid(schema.as_ptr(), true);
        schema != pg_sys::InvalidOid
            && ![asker.user, asker.outer].iter().any(|&role| may_create(schema, role))
    }
}

#[cfg(feature = "pg15")]
fn may_create(schema: pg_sys::Oid, role: pg_sys::Oid) -> bool {
    // SAFETY: reads the catalogs.
    unsafe {
        pg_sys::pg_namespace_aclcheck(schema, role, pg_sys::ACL_CREATE as _) == pg_sys::AclResult::ACLCHECK_OK
    }
}

#[cfg(not(feature = "pg15"))]
fn may_create(schema: pg_sys::Oid, role: pg_sys::Oid) -> bool {
    // SAFETY: reads the catalogs.
    let result = unsafe {
        pg_sys::object_aclcheck(pg_sys::NamespaceRelationId, schema, role, pg_sys::ACL_CREATE as _)
    };
    result == pg_sys::AclResult::ACLCHECK_OK
}
