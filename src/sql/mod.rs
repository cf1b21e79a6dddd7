//! What the extension adds to SQL. The objects themselves are created by `sql/leann.sql`, written by hand; here are the
//! functions behind them.

pub mod embedding;
pub mod functions;
pub mod introspect;
pub mod operators;
pub mod recall;

use std::borrow::Cow;
use std::ffi::{CStr, c_char, c_int};
use std::ptr::NonNull;

use pgrx::array::RawArray;
use pgrx::callconv::{Arg, ArgAbi};
use pgrx::datum::FromDatum;
use pgrx::prelude::*;

use crate::error::{Error, OrRaise, Result};

/// A text argument as UTF-8, whatever the database's encoding. (pgrx's `String` serves UTF-8 databases only.)
pub struct Text(pub String);

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

pgrx::impl_sql_translatable!(Text, "text");

/// Text in the database's encoding as UTF-8. Raises an ERROR for bytes that are not text.
pub fn utf8(bytes: &[u8]) -> Cow<'_, str> {
    const UTF8: c_int = pg_sys::pg_enc::PG_UTF8 as c_int;
    // SAFETY: a plain read of the database's encoding.
    if unsafe { pg_sys::GetDatabaseEncoding() } == UTF8 {
        match std::str::from_utf8(bytes) {
            Ok(text) => return Cow::Borrowed(text),
            Err(_) => not_text().raise(),
        }
    }
    // SAFETY: the pointer and length are those of a slice. The result is the same pointer, or a C string of its own.
    let converted = unsafe {
        let start = bytes.as_ptr().cast::<c_char>();
        let converted = pg_sys::pg_server_to_any(start, bytes.len() as c_int, UTF8);
        if converted.cast_const() == start { bytes } else { CStr::from_ptr(converted).to_bytes() }
    };
    match std::str::from_utf8(converted) {
        Ok(text) => Cow::Owned(text.to_owned()),
        Err(_) => not_text().raise(),
    }
}

/// UTF-8 text in the database's encoding. Raises an ERROR for a character that it lacks.
pub fn to_server_encoding(text: &str) -> Cow<'_, [u8]> {
    const UTF8: c_int = pg_sys::pg_enc::PG_UTF8 as c_int;
    // SAFETY: as in `utf8`, the other way round.
    unsafe {
        if pg_sys::GetDatabaseEncoding() == UTF8 {
            return Cow::Borrowed(text.as_bytes());
        }
        let start = text.as_ptr().cast::<c_char>();
        let converted = pg_sys::pg_any_to_server(start, text.len() as c_int, UTF8);
        if converted.cast_const() == start {
            return Cow::Borrowed(text.as_bytes());
        }
        Cow::Owned(CStr::from_ptr(converted).to_bytes().to_vec())
    }
}

fn not_text() -> Error {
    Error::new(
        PgSqlErrorCode::ERRCODE_CHARACTER_NOT_IN_REPERTOIRE,
        "the bytes of a text are not valid in the encoding of the database",
    )
}

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
