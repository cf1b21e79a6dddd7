//! Arrays of numbers as arguments of functions: the way to write a vector in SQL.

use std::ffi::c_char;
use std::ptr::NonNull;

use pgrx::array::RawArray;
use pgrx::callconv::{Arg, ArgAbi};
use pgrx::datum::FromDatum;
use pgrx::prelude::*;

use crate::error::{Error, OrRaise, Result};

/// An array argument that stands for an embedding: numbers of any type, in one dimension, without NULLs.
pub struct Numbers(pub Vec<f32>);

impl FromDatum for Numbers {
    unsafe fn from_polymorphic_datum(datum: pg_sys::Datum, is_null: bool, _: pg_sys::Oid) -> Option<Numbers> {
        // SAFETY: the caller promises a datum of an array type.
        (!is_null).then(|| Numbers(unsafe { numbers(datum) }.or_raise()))
    }
}

// SAFETY: an argument of an array type is what FromDatum needs.
unsafe impl<'fcx> ArgAbi<'fcx> for Numbers {
    unsafe fn unbox_arg_unchecked(arg: Arg<'_, 'fcx>) -> Self {
        // SAFETY: the caller promises an argument of this type; the SQL functions with such arguments are
        // strict.
        unsafe { arg.unbox_arg_using_from_datum() }.expect("the argument is not null")
    }
}

pgrx::impl_sql_translatable!(Numbers, "anyarray");

/// The array types that an embedding can be made of.
pub const NUMBER_ARRAYS: [pg_sys::Oid; 6] = [
    pg_sys::FLOAT4ARRAYOID,
    pg_sys::FLOAT8ARRAYOID,
    pg_sys::NUMERICARRAYOID,
    pg_sys::INT2ARRAYOID,
    pg_sys::INT4ARRAYOID,
    pg_sys::INT8ARRAYOID,
];

/// Returns the numbers of an array, whatever their type, which the array itself names.
///
/// # Safety
/// The datum must be a non-null value of an array type.
pub unsafe fn numbers(array: pg_sys::Datum) -> Result<Vec<f32>> {
    // SAFETY: a datum of an array type points to a varlena, which is an ArrayType once detoasted.
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
    // SAFETY: without NULLs, numbers of a fixed width are contiguous, as `data` assumes; the array names
    // their type.
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

/// Converts a number to real, unless it is out of range.
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

/// Returns the numbers of an array of numerics.
///
/// # Safety
/// `array` is a live `numeric[]` without NULLs.
unsafe fn numerics(array: *mut pg_sys::ArrayType) -> Vec<f32> {
    let (mut elements, mut count) = (std::ptr::null_mut::<pg_sys::Datum>(), 0);
    // SAFETY: the caller promises such an array; a numeric is a varlena aligned like an int4. The server's
    // own conversion raises an ERROR for a number that is out of range. Its result is a float4, which is
    // passed by value.
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
