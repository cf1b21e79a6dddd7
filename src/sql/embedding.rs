//! The functions of the type `leann.embedding` in SQL.
//!
//! No input, output or cast to the type calls a model. `embedding_of(body)` over a table of a million rows
//! costs a million copies of text. The distance operators, the cast to `real[]` and indexes need the vectors
//! and compute them, in batches where they can.

use std::ffi::{CStr, CString};

use leann_value::Value;
use pgrx::pg_sys::errcodes::PgSqlErrorCode;
use pgrx::prelude::*;

use crate::encoding::{to_server_encoding, utf8};
use crate::error::{Error, OrRaise};
use crate::model;
use crate::model::guard::{self, Purpose};
use crate::value::{Embedding, Numbers, Text, refused};

/// Parses a literal.
#[pg_extern(sql = false)]
fn embedding_in(literal: &CStr) -> Embedding {
    Embedding::parse(&utf8(literal.to_bytes())).or_raise()
}

/// Returns the literal of a value.
#[pg_extern(sql = false)]
fn embedding_out(value: Embedding) -> CString {
    let literal = value.literal();
    // No value contains a NUL: `checked` guards every entry that could bring one.
    CString::new(to_server_encoding(&literal)).expect("a literal has no null character")
}

/// Decodes the binary form of a value, which is the whole message. An incomplete, overlong or malformed
/// message is an error.
#[pg_extern(sql = false)]
fn embedding_recv(message: pgrx::datum::Internal) -> Embedding {
    let code = PgSqlErrorCode::ERRCODE_INVALID_BINARY_REPRESENTATION;
    // SAFETY: Postgres calls a receive function with a StringInfo, whose cursor is at the first unread byte.
    let bytes = unsafe {
        let message = message.unwrap().expect("a receive function gets a message");
        let message = message.cast_mut_ptr::<pg_sys::StringInfoData>();
        let len = (*message).len - (*message).cursor;
        std::slice::from_raw_parts(pg_sys::pq_getmsgbytes(message, len).cast::<u8>(), len as usize)
    };
    Value::decode(bytes)
        .map_err(|reason| Error::new(code, "invalid binary form of an embedding").detail(reason.to_string()))
        .and_then(|value| value.checked().map_err(|fault| refused(code, fault)))
        .map(Embedding::in_this_database)
        .or_raise()
}

/// Returns the binary form of a value, which is its stored form.
#[pg_extern(sql = false)]
fn embedding_send(value: &[u8]) -> Vec<u8> {
    value.to_vec()
}

/// Tells ANALYZE to skip columns and expressions of this type. It would copy the texts of thousands of rows
/// into memory and the most common ones into the catalog, and no plan would be better for it.
#[pg_extern(sql = false)]
fn embedding_typanalyze(_statistics: pgrx::datum::Internal) -> bool {
    false
}

/// Casts a value to `real[]`, which computes its vector.
#[pg_extern(sql = false)]
fn embedding_to_reals(value: Embedding) -> Vec<f32> {
    guard::outside_index(Purpose::Cast, || model::vector(&value, &model::default_name())).or_raise().to_vec()
}

/// Casts an array of numbers to a vector of unit length.
#[pg_extern(sql = false)]
fn embedding_from_numbers(numbers: Numbers) -> Embedding {
    Embedding::dense(numbers.0).map_err(Error::invalid).or_raise()
}

/// Casts a text to a value, by the same rule as literals.
#[pg_extern(sql = false)]
fn embedding_from_text(text: Text) -> Embedding {
    Embedding::parse(&text.0).or_raise()
}
