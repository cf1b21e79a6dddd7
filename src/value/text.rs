//! SQL text as an argument or a result of functions.

use std::ffi::c_int;

use pgrx::callconv::{Arg, ArgAbi, BoxRet, FcInfo};
use pgrx::datum::{Datum, FromDatum, IntoDatum};
use pgrx::prelude::*;

use crate::encoding::{representable, to_server_encoding, utf8};
use crate::pg::allocator;

/// A text argument as UTF-8, whatever the database's encoding. (pgrx's `String` supports UTF-8 databases
/// only.)
pub struct Text(pub String);

impl Text {
    /// Returns a text for a listing, with `?` for each character that the database's encoding lacks: a
    /// listing must not fail over one character.
    pub fn listed(text: String) -> Text {
        Text(representable(text))
    }
}

impl FromDatum for Text {
    unsafe fn from_polymorphic_datum(datum: pg_sys::Datum, is_null: bool, _: pg_sys::Oid) -> Option<Text> {
        // SAFETY: the caller promises a datum of a varlena type; detoasting takes any form of it.
        let bytes = unsafe { <&[u8]>::from_datum(datum, is_null) }?;
        allocator::expect_copy(2 * bytes.len());
        Some(Text(utf8(bytes).into_owned()))
    }
}

// SAFETY: an argument of SQL type text is a varlena, which is all that FromDatum needs.
unsafe impl<'fcx> ArgAbi<'fcx> for Text {
    unsafe fn unbox_arg_unchecked(arg: Arg<'_, 'fcx>) -> Self {
        // SAFETY: the caller promises an argument of this type; the SQL functions with such arguments are
        // strict or take an Option.
        unsafe { arg.unbox_arg_using_from_datum() }.expect("the argument is not null")
    }
}

impl IntoDatum for Text {
    fn into_datum(self) -> Option<pg_sys::Datum> {
        let bytes = to_server_encoding(&self.0);
        // SAFETY: copies the bytes of a slice into a new value in the current context.
        let value = unsafe { pg_sys::cstring_to_text_with_len(bytes.as_ptr().cast(), bytes.len() as c_int) };
        Some(pg_sys::Datum::from(value))
    }

    fn type_oid() -> pg_sys::Oid {
        pg_sys::TEXTOID
    }
}

// SAFETY: the datum is a varlena in the current memory context, as a function's result must be.
unsafe impl BoxRet for Text {
    unsafe fn box_into<'fcx>(self, fcinfo: &mut FcInfo<'fcx>) -> Datum<'fcx> {
        match self.into_datum() {
            // SAFETY: the datum has the type that the SQL function returns.
            Some(datum) => unsafe { fcinfo.return_raw_datum(datum) },
            None => fcinfo.return_null(),
        }
    }
}

pgrx::impl_sql_translatable!(Text, "text");

/// Returns bytes in hexadecimal digits, as SQL shows fingerprints.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
