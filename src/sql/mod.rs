//! What the extension adds to SQL. The objects themselves are created by `sql/leann.sql`, written by hand; here are the
//! functions behind them.

pub mod embedding;
pub mod functions;
pub mod introspect;
pub mod operators;
pub mod recall;

use std::ffi::{c_char, c_int};
use std::ptr::NonNull;

use pgrx::array::RawArray;
use pgrx::callconv::{Arg, ArgAbi, BoxRet, FcInfo};
use pgrx::datum::{Datum, FromDatum, IntoDatum};
use pgrx::prelude::*;

use crate::error::{Error, OrRaise, Result};
use crate::pg::encoding::representable;
pub use crate::pg::encoding::{to_server_encoding, utf8};
use crate::pg::memory;

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
        memory::expect_copy(2 * bytes.len());
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

/// An array argument that stands for an embedding: of numbers of any type, in one dimension, without NULLs.
pub struct Numbers(pub Vec<f32>);

impl FromDatum for Numbers {
    unsafe fn from_polymorphic_datum(datum: pg_sys::Datum, is_null: bool, _: pg_sys::Oid) -> Option<Numbers> {
        // SAFETY: the caller vouches for a datum of an array type.
        (!is_null).then(|| Numbers(unsafe { numbers(datum) }.or_raise()))
    }
}

// SAFETY: an argument of an array type is what FromDatum asks for.
unsafe impl<'fcx> ArgAbi<'fcx> for Numbers {
    unsafe fn unbox_arg_unchecked(arg: Arg<'_, 'fcx>) -> Self {
        // SAFETY: passed on from the caller; the SQL functions with such arguments are strict.
        unsafe { arg.unbox_arg_using_from_datum() }.expect("the argument is not null")
    }
}

pgrx::impl_sql_translatable!(Numbers, "anyarray");

/// The types of arrays that an embedding can be made of.
pub const NUMBER_ARRAYS: [pg_sys::Oid; 6] = [
    pg_sys::FLOAT4ARRAYOID,
    pg_sys::FLOAT8ARRAYOID,
    pg_sys::NUMERICARRAYOID,
    pg_sys::INT2ARRAYOID,
    pg_sys::INT4ARRAYOID,
    pg_sys::INT8ARRAYOID,
];

/// The numbers of an array, whatever their type: the array itself says which it is.
///
/// # Safety
/// The datum must be a non-null value of an array type.
pub unsafe fn numbers(array: pg_sys::Datum) -> Result<Vec<f32>> {
    // SAFETY: a datum of an array type points to a varlena, and detoasted it is an ArrayType.
    let detoasted = unsafe { pg_sys::pg_detoast_datum(array.cast_mut_ptr()) }.cast::<pg_sys::ArrayType>();
    let array = NonNull::new(detoasted).expect("a detoasted value has an address");
    // SAFETY: as above.
    let mut array = unsafe { RawArray::from_ptr(array) };
    if array.dims().len() > 1 {
        return Err(Error::new(
            PgSqlErrorCode::ERRCODE_ARRAY_ELEMENT_ERROR,
            "an embedding must be a one-dimensional array",
        ));
    }
    // SAFETY: as above.
    if unsafe { array.any_nulls() } {
        return Err(Error::new(
            PgSqlErrorCode::ERRCODE_NULL_VALUE_NOT_ALLOWED,
            "an embedding must not contain NULLs",
        ));
    }
    if array.len() == 0 {
        return Ok(Vec::new());
    }
    // SAFETY: without NULLs, numbers of a fixed width lie one after the other, as `data` takes them to; their type is the
    // one that the array names.
    unsafe {
        match array.oid() {
            pg_sys::FLOAT4OID => Ok(array.data::<f32>().as_ref().to_vec()),
            pg_sys::FLOAT8OID => array.data::<f64>().as_ref().iter().map(|&number| to_real(number)).collect(),
            pg_sys::INT2OID => Ok(array.data::<i16>().as_ref().iter().map(|&number| number.into()).collect()),
            pg_sys::INT4OID => Ok(array.data::<i32>().as_ref().iter().map(|&number| number as f32).collect()),
            pg_sys::INT8OID => Ok(array.data::<i64>().as_ref().iter().map(|&number| number as f32).collect()),
            pg_sys::NUMERICOID => Ok(numerics(detoasted)),
            other => Err(Error::new(
                PgSqlErrorCode::ERRCODE_DATATYPE_MISMATCH,
                format!("an embedding cannot be made of elements of type {}", other.to_u32()),
            )),
        }
    }
}

fn to_real(number: f64) -> Result<f32> {
    let real = number as f32;
    if real.is_infinite() && number.is_finite() {
        return Err(Error::new(
            PgSqlErrorCode::ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE,
            format!("\"{number}\" is out of range for type real"),
        ));
    }
    Ok(real)
}

/// # Safety
/// `array` is a live `numeric[]` without NULLs.
unsafe fn numerics(array: *mut pg_sys::ArrayType) -> Vec<f32> {
    let (mut elements, mut count) = (std::ptr::null_mut::<pg_sys::Datum>(), 0);
    // SAFETY: by the caller's promise; a numeric is a varlena aligned like an int4. The server's own conversion raises an
    // ERROR for a number that is out of range. Its result is a float4, which is passed by value.
    unsafe {
        pg_sys::deconstruct_array(
            array,
            pg_sys::NUMERICOID,
            -1,
            false,
            pg_sys::TYPALIGN_INT as c_char,
            &mut elements,
            std::ptr::null_mut(),
            &mut count,
        );
        std::slice::from_raw_parts(elements, count as usize)
            .iter()
            .map(|&number| pgrx::direct_function_call(pg_sys::numeric_float4, &[Some(number)]))
            .map(|number: Option<f32>| number.expect("a number converts to a number"))
            .collect()
    }
}
