//! What the extension adds to SQL. The objects themselves are created by `sql/leann.sql`, written by hand; here are the
//! functions behind them.

pub mod embedding;
pub mod functions;
pub mod introspect;
pub mod operators;
pub mod recall;

use std::ffi::c_int;
use std::ptr::NonNull;

use pgrx::array::RawArray;
use pgrx::callconv::{Arg, ArgAbi, BoxRet, FcInfo};
use pgrx::datum::{Datum, FromDatum, IntoDatum};
use pgrx::prelude::*;

use crate::error::{Error, OrRaise, Result};
use crate::pg::encoding::representable;
pub use crate::pg::encoding::{to_server_encoding, utf8};

/// A text argument as UTF-8, whatever the database's encoding. (pgrx's `String` serves UTF-8 databases only.)
pub struct Text(pub String);

impl Text {
    /// For a listing, which is not to fail over a character that the database's encoding lacks.
    pub fn listed(text: String) -> Text {
        Text(representable(text))
    }
}

impl FromDatum for Text {
    unsafe fn from_polymorphic_datum(datum: pg_sys::Datum, is_null: bool, _: pg_sys::Oid) -> Option<Text> {
        // SAFETY: the caller vouches for a datum of a varlena type; detoasting takes any form of it.
        let bytes = unsafe { <&[u8]>::from_datum(datum, is_null) }?;
        Some(Text(utf8(bytes).into_owned()))
    }
}

// SAFETY: an argument of SQL type text is a varlena, which is all that FromDatum asks for.
unsafe impl<'fcx> ArgAbi<'fcx> for Text {
    unsafe fn unbox_arg_unchecked(arg: Arg<'_, 'fcx>) -> Self {
        // SAFETY: passed on from the caller; the SQL functions with such arguments are strict or take an Option.
        unsafe { arg.unbox_arg_using_from_datum() }.expect("the argument is not null")
    }
}

impl IntoDatum for Text {
    fn into_datum(self) -> Option<pg_sys::Datum> {
        let bytes = to_server_encoding(&self.0);
        // SAFETY: copies so many bytes into a new value in the current context.
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
            // SAFETY: the datum is of the type that the SQL function returns.
            Some(datum) => unsafe { fcinfo.return_raw_datum(datum) },
            None => fcinfo.return_null(),
        }
    }
}

pgrx::impl_sql_translatable!(Text, "text");

/// A `real[]` argument that stands for an embedding: one dimension, no NULLs.
pub struct Reals(pub Vec<f32>);

impl FromDatum for Reals {
    unsafe fn from_polymorphic_datum(datum: pg_sys::Datum, is_null: bool, _: pg_sys::Oid) -> Option<Reals> {
        // SAFETY: the caller vouches for a datum of type real[].
        (!is_null).then(|| Reals(unsafe { reals(datum) }.or_raise()))
    }
}

// SAFETY: an argument of SQL type real[] is what FromDatum asks for.
unsafe impl<'fcx> ArgAbi<'fcx> for Reals {
    unsafe fn unbox_arg_unchecked(arg: Arg<'_, 'fcx>) -> Self {
        // SAFETY: passed on from the caller; the SQL functions with such arguments are strict.
        unsafe { arg.unbox_arg_using_from_datum() }.expect("the argument is not null")
    }
}

pgrx::impl_sql_translatable!(Reals, "real[]");

/// The numbers of a `real[]`.
///
/// # Safety
/// The datum must be a non-null value of type `real[]`.
pub unsafe fn reals(array: pg_sys::Datum) -> Result<Vec<f32>> {
    // SAFETY: a datum of an array type points to a varlena, and detoasted it is an ArrayType.
    let array = unsafe { pg_sys::pg_detoast_datum(array.cast_mut_ptr()) }.cast::<pg_sys::ArrayType>();
    let array = NonNull::new(array).expect("a detoasted value has an address");
    // SAFETY: as above.
    let mut array = unsafe { RawArray::from_ptr(array) };
    if array.dims().len() > 1 {
        return Err(Error::new(
            PgSqlErrorCode::ERRCODE_ARRAY_ELEMENT_ERROR,
            "an embedding must be a one-dimensional array",
        ));
    }
    // SAFETY: `array` is a valid array; without NULLs its numbers lie one after the other, as `data` takes them to.
    unsafe {
        if array.any_nulls() {
            return Err(Error::new(
                PgSqlErrorCode::ERRCODE_NULL_VALUE_NOT_ALLOWED,
                "an embedding must not contain NULLs",
            ));
        }
        Ok(if array.len() == 0 { Vec::new() } else { array.data::<f32>().as_ref().to_vec() })
    }
}
