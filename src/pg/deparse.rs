//! An index in SQL: the names and expressions that a statement over its table needs, as bytes in the encoding of the database.
//! What stands outside the caller's search_path comes with its schema.

use super::relation::Rel;
use pgrx::{direct_function_call_as_datum, pg_sys};
use std::ffi::{CStr, CString, c_char};

/// The name of a relation with its schema, quoted where it must be.
pub fn relation_name(rel: Rel) -> CString {
    // SAFETY: an open relation has its pg_class row and its schema a name; the result is a palloc'd C string.
    unsafe {
        let row = (*rel.raw()).rd_rel;
        let schema = pg_sys::get_namespace_name((*row).relnamespace);
        owned(pg_sys::quote_qualified_identifier(schema, (*row).relname.data.as_ptr()))
    }
}

/// The expression of an index's only column.
pub fn index_expression(index: Rel) -> CString {
    // SAFETY: the server's own SQL function, with arguments of its types.
    unsafe {
        let arguments = [Some(index.oid().into()), Some(1i32.into()), Some(false.into())];
        text(direct_function_call_as_datum(pg_sys::pg_get_indexdef_ext, &arguments)).unwrap_or_default()
    }
}

/// The condition of a partial index.
pub fn index_predicate(index: Rel, table: Rel) -> Option<CString> {
    const CACHE: i32 = pg_sys::SysCacheIdentifier::INDEXRELID as i32;
    // SAFETY: the tuple is held until the value in it is used, and the function gets arguments of its types.
    unsafe {
        let tuple = pg_sys::SearchSysCache1(CACHE, index.oid().into());
        if tuple.is_null() {
            return None;
        }
        let mut null = true;
        let column = pg_sys::Anum_pg_index_indpred as pg_sys::AttrNumber;
        let condition = pg_sys::SysCacheGetAttr(CACHE, tuple, column, &mut null);
        let written = (!null)
            .then(|| {
                let arguments = [Some(condition), Some(table.oid().into())];
                direct_function_call_as_datum(pg_sys::pg_get_expr, &arguments)
            })
            .and_then(|value| text(value));
        pg_sys::ReleaseSysCache(tuple);
        written
    }
}

/// The operator of a strategy of the index's operator class that takes this type on its right, as `OPERATOR(schema.name)`.
pub fn index_operator(index: Rel, strategy: i16, right: pg_sys::Oid) -> Option<Vec<u8>> {
    // SAFETY: an open index has one key column with its family and input type; the tuple is held while it is read.
    unsafe {
        let (family, left) = (*(*index.raw()).rd_opfamily, *(*index.raw()).rd_opcintype);
        let operator = pg_sys::get_opfamily_member(family, left, right, strategy);
        let cache = pg_sys::SysCacheIdentifier::OPEROID as i32;
        let tuple = pg_sys::SearchSysCache1(cache, operator.into());
        if tuple.is_null() {
            return None;
        }
        let row = pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_operator>();
        let schema = pg_sys::get_namespace_name((*row).oprnamespace);
        let schema = CStr::from_ptr(pg_sys::quote_identifier(schema)).to_bytes();
        let name = CStr::from_ptr((*row).oprname.data.as_ptr()).to_bytes();
        let written = [b"OPERATOR(", schema, b".", name, b")"].concat();
        pg_sys::ReleaseSysCache(tuple);
        Some(written)
    }
}

/// # Safety
/// `value` is a datum of type text.
unsafe fn text(value: Option<pg_sys::Datum>) -> Option<CString> {
    // SAFETY: by the caller's promise; the result is a palloc'd C string.
    value.map(|value| unsafe { owned(pg_sys::text_to_cstring(value.cast_mut_ptr())) })
}

/// # Safety
/// `string` is a palloc'd C string that nobody else uses.
unsafe fn owned(string: *mut c_char) -> CString {
    // SAFETY: by the caller's promise.
    unsafe {
        let copy = CStr::from_ptr(string).to_owned();
        pg_sys::pfree(string.cast());
        copy
    }
}
