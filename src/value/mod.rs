//! Converts values between SQL and Rust: the type `leann.embedding`, text, and arrays of numbers.
//! crates/value defines what an embedding is, its literals and its bytes.

mod numbers;
mod text;

use std::ops::Deref;
use std::ptr;

use leann_value::{Value, ValueError};
use pgrx::callconv::{Arg, ArgAbi, BoxRet, FcInfo};
use pgrx::datum::{Datum, FromDatum, IntoDatum};
use pgrx::pg_sys::errcodes::PgSqlErrorCode;
use pgrx::prelude::*;

use crate::encoding::to_server_encoding;
use crate::error::{Error, OrRaise, Result};
use crate::pg::allocator;
pub use numbers::{NUMBER_ARRAYS, Numbers, numbers};
pub use text::{Text, hex};

/// A value of the SQL type `leann.embedding`, as the functions of this extension take and return it.
#[derive(Clone, Debug, PartialEq)]
pub struct Embedding(pub Value);

impl Deref for Embedding {
    type Target = Value;

    fn deref(&self) -> &Value {
        &self.0
    }
}

impl Embedding {
    /// Reads a literal.
    pub fn parse(literal: &str) -> Result<Embedding> {
        allocator::expect_copy(2 * literal.len());
        let code = PgSqlErrorCode::ERRCODE_INVALID_TEXT_REPRESENTATION;
        Value::parse(literal).map_err(|fault| refused(code, fault)).map(Embedding::in_this_database)
    }

    /// Returns what a text means as the right operand of a distance, for a model of `dim` dimensions.
    pub fn operand(text: &str, dim: usize) -> Embedding {
        allocator::expect_copy(text.len());
        Embedding(Value::operand(text, dim))
    }

    /// Returns the value of a vector, scaled to unit length. The error says what is wrong with the numbers.
    pub fn dense(numbers: Vec<f32>) -> Result<Embedding, String> {
        Value::dense(numbers).map(Embedding).map_err(|error| error.to_string())
    }

    /// Returns a value that came from a client. Raises an ERROR unless the database's encoding can represent
    /// its text and its model.
    pub fn in_this_database(value: Value) -> Embedding {
        if let Value::Deferred { text, model, .. } = &value {
            to_server_encoding(text);
            to_server_encoding(model.as_deref().unwrap_or_default());
        }
        Embedding(value)
    }
}

/// Returns the ERROR for what cannot be a value: `code` for its content, 22023 for a model's name.
pub fn refused(code: PgSqlErrorCode, fault: ValueError) -> Error {
    match fault {
        ValueError::ModelName(_) => Error::invalid(fault.to_string()),
        _ => Error::new(code, fault.to_string()),
    }
}

impl FromDatum for Embedding {
    unsafe fn from_polymorphic_datum(
        datum: pg_sys::Datum,
        is_null: bool,
        _: pg_sys::Oid,
    ) -> Option<Embedding> {
        // SAFETY: the caller promises a datum of a varlena type; detoasting takes any form of it.
        let bytes = unsafe { <&[u8]>::from_datum(datum, is_null) }?;
        allocator::expect_copy(2 * bytes.len());
        Some(Value::decode(bytes).map_err(|error| error.to_string()).map(Embedding).unwrap_or_else(
            |reason| {
                Error::new(PgSqlErrorCode::ERRCODE_DATA_CORRUPTED, "a stored embedding is corrupted")
                    .detail(reason)
                    .raise()
            },
        ))
    }
}

impl IntoDatum for Embedding {
    fn into_datum(self) -> Option<pg_sys::Datum> {
        let len = self.encoded_len();
        // SAFETY: palloc returns the whole varlena or raises an ERROR, and every byte of it is written here.
        unsafe {
            let varlena = pg_sys::palloc(pg_sys::VARHDRSZ + len).cast::<pg_sys::varlena>();
            pgrx::set_varsize_4b(varlena, (pg_sys::VARHDRSZ + len) as i32);
            let body = varlena.cast::<u8>().add(pg_sys::VARHDRSZ);
            ptr::write_bytes(body, 0, len);
            self.encode(std::slice::from_raw_parts_mut(body, len));
            Some(pg_sys::Datum::from(varlena))
        }
    }

    fn type_oid() -> pg_sys::Oid {
        crate::pg::extension::type_named(c"embedding").or_raise()
    }
}

// SAFETY: an argument of SQL type embedding is a varlena, which is all that FromDatum needs.
unsafe impl<'fcx> ArgAbi<'fcx> for Embedding {
    unsafe fn unbox_arg_unchecked(arg: Arg<'_, 'fcx>) -> Self {
        // SAFETY: the caller promises an argument of this type; the SQL functions with such arguments are
        // strict.
        unsafe { arg.unbox_arg_using_from_datum() }.expect("the argument is not null")
    }
}

// SAFETY: the datum is a varlena in the current memory context, as a function's result must be.
unsafe impl BoxRet for Embedding {
    unsafe fn box_into<'fcx>(self, fcinfo: &mut FcInfo<'fcx>) -> Datum<'fcx> {
        match self.into_datum() {
            // SAFETY: the datum has the type that the SQL function returns.
            Some(datum) => unsafe { fcinfo.return_raw_datum(datum) },
            None => fcinfo.return_null(),
        }
    }
}

pgrx::impl_sql_translatable!(Embedding, "embedding");
