//! Finds the extension's own objects by their membership. A name alone proves nothing: any user may give it
//! to an object of their own.

use crate::error::{Error, Result};
use pgrx::pg_sys;
use pgrx::pg_sys::errcodes::PgSqlErrorCode;
use std::ffi::CStr;

/// Returns the type called `name` that belongs to the extension, in whatever schema it is.
pub fn type_named(name: &CStr) -> Result<pg_sys::Oid> {
    // SAFETY: catalog lookups by a C string. The list is released once, and its tuples are live until then.
    let found = unsafe {
        let extension = pg_sys::get_extension_oid(c"leann".as_ptr(), false);
        let cache = pg_sys::SysCacheIdentifier::TYPENAMENSP as i32;
        let none = pg_sys::Datum::from(0usize);
        let list = pg_sys::SearchSysCacheList(cache, 1, name.as_ptr().into(), none, none);
        let members = (*list).members.as_slice((*list).n_members as usize);
        let found = members.iter().find_map(|&member| {
            let form = pg_sys::GETSTRUCT(&raw mut (*member).tuple).cast::<pg_sys::FormData_pg_type>();
            let oid = (*form).oid;
            (pg_sys::getExtensionOfObject(pg_sys::TypeRelationId, oid) == extension).then_some(oid)
        });
        pg_sys::ReleaseCatCacheList(list);
        found
    };
    found.ok_or_else(|| {
        let name = name.to_string_lossy();
        Error::new(
            PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT,
            format!("the extension leann has no type \"{name}\""),
        )
        .hint("Recreate the extension: DROP EXTENSION leann, then CREATE EXTENSION leann.")
    })
}
