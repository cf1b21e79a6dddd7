//! The SQL text of an index: the names and expressions that a statement over its table needs, as bytes in the
//! encoding of the database. Names outside the caller's search_path carry their schema.

use super::catalog;
use super::relation::Rel;
use pgrx::{direct_function_call_as_datum, pg_sys};
use std::ffi::{CStr, CString, c_char};

/// Returns the name of a relation with its schema, quoted where necessary.
pub fn relation_name(rel: Rel) -> CString {
    // SAFETY: an open relation has its pg_class row and its schema a name; the result is a palloc'd C string.
    unsafe {
        let row = (*rel.raw()).rd_rel;
        let schema = pg_sys::get_namespace_name((*row).relnamespace);
        take_c_string(pg_sys::quote_qualified_identifier(schema, (*row).relname.data.as_ptr()))
    }
}

/// Returns the expression of an index's only column.
pub fn index_expression(index: Rel) -> CString {
    // SAFETY: the server's own SQL function, with arguments of its types.
    unsafe {
        let arguments = [Some(index.oid().into()), Some(1i32.into()), Some(false.into())];
        take_text(direct_function_call_as_datum(pg_sys::pg_get_indexdef_ext, &arguments)).unwrap_or_default()
    }
}

/// Returns the condition of a partial index.
pub fn index_predicate(index: Rel, table: Rel) -> Option<CString> {
    let row = catalog::index(index.oid())?;
    let condition = row.attribute(pg_sys::Anum_pg_index_indpred)?;
    let arguments = [Some(condition), Some(table.oid().into())];
    // SAFETY: the server's own SQL function, with arguments of its types.
    unsafe { take_text(direct_function_call_as_datum(pg_sys::pg_get_expr, &arguments)) }
}

/// Returns the operator of `strategy` in the index's operator class whose right operand has the type `right`,
/// as `OPERATOR(schema.name)`.
pub fn index_operator(index: Rel, strategy: i16, right: pg_sys::Oid) -> Option<Vec<u8>> {
    // SAFETY: an open index has one key column with its family and input type.
    let operator = unsafe {
        let (family, left) = (*(*index.raw()).rd_opfamily, *(*index.raw()).rd_opcintype);
        pg_sys::get_opfamily_member(family, left, right, strategy)
    };
    let row = catalog::operator(operator)?;
    // SAFETY: the schema of an operator exists; the results are C strings.
    let schema = unsafe {
        let schema = pg_sys::get_namespace_name(row.oprnamespace);
        CStr::from_ptr(pg_sys::quote_identifier(schema)).to_bytes()
    };
    // SAFETY: the name in a catalog row is NUL-terminated.
    let name = unsafe { CStr::from_ptr(row.oprname.data.as_ptr()).to_bytes() };
    Some([b"OPERATOR(", schema, b".", name, b")"].concat())
}

/// Returns a text as a C string.
///
/// # Safety
/// `value` is a datum of type text.
unsafe fn take_text(value: Option<pg_sys::Datum>) -> Option<CString> {
    // SAFETY: the caller promises a text; the result is a palloc'd C string.
    value.map(|value| unsafe { take_c_string(pg_sys::text_to_cstring(value.cast_mut_ptr())) })
}

/// Copies a C string and frees the original.
///
/// # Safety
/// `string` is a palloc'd C string that nothing else uses.
unsafe fn take_c_string(string: *mut c_char) -> CString {
    // SAFETY: the caller promises such a string.
    unsafe {
        let copy = CStr::from_ptr(string).to_owned();
        pg_sys::pfree(string.cast());
        copy
    }
}
