//! Decides whether an index expression is *settled*: whether what it does is independent of the session that
//! evaluates it.
//!
//! A function of a language that looks up names at run time finds them through the session's search_path. A
//! PL/pgSQL function does so once, when the session calls it first, whatever the path is later. So a session
//! can put functions and types of its own where the function's author meant others, and they receive what the
//! function passes to them. That is harmless if the user may see the rows. If not, only functions that no
//! session can change are allowed: compiled ones, the server's own, and SQL and PL/pgSQL functions that set a
//! search_path without a schema in which the user can create objects. What these functions call in turn is
//! the responsibility of their authors.

use super::catalog::{self, CatalogRow};
use super::rights::Asker;
use pgrx::datum::FromDatum;
use pgrx::{Array, PgList, pg_sys};
use std::ffi::{CStr, CString, c_char, c_void};

/// The server's `INTERNALlanguageId` and `ClanguageId`: languages whose names a compiler looks up.
const COMPILED_LANGUAGES: [u32; 2] = [12, 13];
/// The server's `SQLlanguageId`.
const SQL_LANGUAGE: u32 = 14;

/// A part of an expression that is not settled.
pub enum Unsettled {
    Function(pg_sys::Oid),
    /// A check of a domain, or a construct that this module does not know.
    Other,
}

/// Returns the first part of an expression, or of a list of expressions, that is not settled.
///
/// # Safety
/// `expression` is null, or a live node tree whose operators have their functions' oids.
pub unsafe fn unsettled_part(expression: *mut pg_sys::Node) -> Option<Unsettled> {
    let mut found: Option<Unsettled> = None;
    // SAFETY: the caller promises a node tree; the walker gets the Option above.
    unsafe { find_unsettled(expression, (&raw mut found).cast()) };
    found
}

/// Walks an expression, and ends at the first part that is not settled.
#[pgrx::pg_guard]
unsafe extern "C-unwind" fn find_unsettled(node: *mut pg_sys::Node, found: *mut c_void) -> bool {
    if node.is_null() {
        return false;
    }
    // SAFETY: nodes come from the server with true tags; `found` points to the Option of `unsettled_part`.
    unsafe {
        if !is_transparent((*node).type_) {
            *(found as *mut Option<Unsettled>) = Some(Unsettled::Other);
            return true;
        }
        pg_sys::check_functions_in_node(node, Some(is_unsettled_function), found)
            || pg_sys::expression_tree_walker(node, Some(find_unsettled), found)
    }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn is_unsettled_function(function: pg_sys::Oid, found: *mut c_void) -> bool {
    let unsettled = !is_settled(function);
    if unsettled {
        // SAFETY: as in `find_unsettled`.
        unsafe { *(found as *mut Option<Unsettled>) = Some(Unsettled::Function(function)) };
    }
    unsettled
}

/// Returns whether a construct calls only the functions that `check_functions_in_node` visits.
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

/// Returns whether no session can change what a function does.
fn is_settled(function: pg_sys::Oid) -> bool {
    let Some(row) = catalog::function(function) else { return false };
    row.pronamespace.to_u32() == pg_sys::PG_CATALOG_NAMESPACE
        || COMPILED_LANGUAGES.contains(&row.prolang.to_u32())
        || (depends_on_path_only(row.prolang)
            && search_path(&row).is_some_and(|path| is_out_of_reach(Asker::now(), path)))
}

/// Returns the search_path that a function sets for itself.
fn search_path(row: &CatalogRow<pg_sys::FormData_pg_proc>) -> Option<Vec<u8>> {
    let settings = row.attribute(pg_sys::Anum_pg_proc_proconfig)?;
    // SAFETY: the column is an array of texts, of which only the bytes are read.
    let settings = unsafe { Array::<&[u8]>::from_datum(settings, false) }?;
    settings.iter().flatten().find_map(|setting| Some(setting.strip_prefix(b"search_path=")?.to_vec()))
}

/// Returns whether search_path is all that a session can change about the functions of a language. For other
/// languages than SQL and PL/pgSQL that is not known.
fn depends_on_path_only(language: pg_sys::Oid) -> bool {
    // SAFETY: a look-up by a C string.
    language.to_u32() == SQL_LANGUAGE
        || language == unsafe { pg_sys::get_language_oid(c"plpgsql".as_ptr(), true) }
}

/// Returns whether a search path has only schemas in which the asker can create nothing, and the schema for
/// temporary objects last: if the path does not name that one, it is searched first.
fn is_out_of_reach(asker: Asker, path: Vec<u8>) -> bool {
    let Ok(path) = CString::new(path) else { return false };
    let mut names: *mut pg_sys::List = std::ptr::null_mut();
    // SAFETY: the function cuts its own copy of the string into pieces, which live as long as the copy does.
    let names: Vec<&CStr> = unsafe {
        let raw = pg_sys::pstrdup(path.as_ptr());
        if !pg_sys::SplitIdentifierString(raw, b',' as c_char, &mut names) {
            return false;
        }
        PgList::<c_char>::from_pg(names).iter_ptr().map(|name| CStr::from_ptr(name)).collect()
    };
    let Some((last, others)) = names.split_last() else { return false };
    *last == c"pg_temp" && others.iter().all(|name| *name == c"pg_catalog" || is_read_only(asker, name))
}

/// Returns whether a schema exists, and the asker can create nothing in it.
fn is_read_only(asker: Asker, schema: &CStr) -> bool {
    // SAFETY: a look-up by a C string.
    let schema = unsafe { pg_sys::get_namespace_oid(schema.as_ptr(), true) };
    schema != pg_sys::InvalidOid && ![asker.user, asker.outer].iter().any(|&role| may_create(schema, role))
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
