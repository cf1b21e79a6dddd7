//! The type `leann.embedding` in SQL. What a value is, its literals and its bytes are in crates/value.
//!
//! No function of the type itself calls a model. `embedding_of(body)` in a table of a million rows costs a million
//! copies of text; what needs the vectors (the distance operators, the cast to `real[]`, an index) computes them, many
//! at a time where it can.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::ops::Deref;
use std::ptr;
use std::rc::Rc;

use leann_value::{Fault, Role, Value};
use pgrx::callconv::{Arg, ArgAbi, BoxRet, FcInfo};
use pgrx::datum::{Datum, FromDatum, IntoDatum};
use pgrx::pg_sys::errcodes::PgSqlErrorCode;
use pgrx::prelude::*;

use super::{Numbers, Text};
use crate::error::{Error, OrRaise, Result};
use crate::model;
use crate::model::guard::{self, Work};
use crate::pg::memory;

/// A value of the SQL type `leann.embedding`, as the functions of this extension take and return it.
#[derive(Clone, Debug, PartialEq)]
pub struct Embedding(pub Value);

impl Deref for Embedding {
    type Target = Value;

    fn deref(&self) -> &Value {
        &self.0
    }
}

/// The vectors of several values, those to be computed by the same model in the same role together: each as
/// `Embedding::vector` gives it.
pub fn vectors(values: &[&Embedding], model: &str) -> Result<Vec<Rc<[f32]>>> {
    let mut vectors: Vec<Option<Rc<[f32]>>> = vec![None; values.len()];
    let mut deferred: HashMap<(&str, Role), Vec<(usize, &str)>> = HashMap::new();
    for (at, value) in values.iter().enumerate() {
        match &value.0 {
            Value::Dense(numbers) => vectors[at] = Some(Rc::from(numbers.as_slice())),
            Value::Deferred { text, role, model: own } => {
                deferred.entry((own.as_deref().unwrap_or(model), *role)).or_default().push((at, text));
            }
        }
    }
    for ((model, role), texts) in deferred {
        let (places, texts): (Vec<usize>, Vec<&str>) = texts.into_iter().unzip();
        for (at, vector) in places.into_iter().zip(model::embed(model, role, &texts)?) {
            vectors[at] = Some(vector);
        }
    }
    Ok(vectors.into_iter().flatten().collect())
}

impl Embedding {
    /// Reads a literal.
    pub fn parse(literal: &str) -> Result<Embedding> {
        memory::expect_copy(2 * literal.len());
        let code = PgSqlErrorCode::ERRCODE_INVALID_TEXT_REPRESENTATION;
        Value::parse(literal).map_err(|fault| refused(code, fault)).map(Embedding::in_this_database)
    }

    /// What a text means as the right operand of a distance, to a model of `dim` dimensions.
    pub fn operand(text: &str, dim: usize) -> Embedding {
        memory::expect_copy(text.len());
        Embedding(Value::operand(text, dim))
    }

    /// A vector of any length but zero, scaled to unit length. The error says what is wrong with the numbers.
    pub fn dense(numbers: Vec<f32>) -> Result<Embedding, String> {
        Value::dense(numbers).map(Embedding)
    }

    /// The vector; a deferred one from the model that it names, else from `model`. Unit length.
    pub fn vector(&self, model: &str) -> Result<Rc<[f32]>> {
        match &self.0 {
            Value::Dense(numbers) => Ok(Rc::from(numbers.as_slice())),
            Value::Deferred { text, role, model: own } => {
                let model = own.as_deref().unwrap_or(model);
                Ok(model::embed(model, *role, &[text])?.swap_remove(0))
            }
        }
    }

    /// A value that came from a client, whose text and model the database can write out again; another raises an ERROR.
    fn in_this_database(value: Value) -> Embedding {
        if let Value::Deferred { text, model, .. } = &value {
            super::to_server_encoding(text);
            super::to_server_encoding(model.as_deref().unwrap_or_default());
        }
        Embedding(value)
    }
}

/// What a client is told of something that cannot be a value; a model's name has a code of its own.
fn refused(code: PgSqlErrorCode, fault: Fault) -> Error {
    match fault {
        Fault::Content(reason) => Error::new(code, reason),
        Fault::ModelName(reason) => Error::invalid(format!("a model name {reason}")),
    }
}

impl FromDatum for Embedding {
    unsafe fn from_polymorphic_datum(
        datum: pg_sys::Datum,
        is_null: bool,
        _: pg_sys::Oid,
    ) -> Option<Embedding> {
        // SAFETY: the caller vouches for a datum of a varlena type; detoasting takes any form of it.
        let bytes = unsafe { <&[u8]>::from_datum(datum, is_null) }?;
        memory::expect_copy(2 * bytes.len());
        Some(Value::decode(bytes).map(Embedding).unwrap_or_else(|reason| {
            Error::new(PgSqlErrorCode::ERRCODE_DATA_CORRUPTED, "a stored embedding is corrupted")
                .detail(reason)
                .raise()
        }))
    }
}

impl IntoDatum for Embedding {
    fn into_datum(self) -> Option<pg_sys::Datum> {
        let len = self.encoded_len();
        // SAFETY: palloc gives the whole varlena or raises an ERROR, and every byte of it is written here.
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

// SAFETY: an argument of SQL type embedding is a varlena, which is all that FromDatum asks for.
unsafe impl<'fcx> ArgAbi<'fcx> for Embedding {
    unsafe fn unbox_arg_unchecked(arg: Arg<'_, 'fcx>) -> Self {
        // SAFETY: passed on from the caller; the SQL functions with such arguments are strict.
        unsafe { arg.unbox_arg_using_from_datum() }.expect("the argument is not null")
    }
}

// SAFETY: the datum is a varlena in the current memory context, as a function's result must be.
unsafe impl BoxRet for Embedding {
    unsafe fn box_into<'fcx>(self, fcinfo: &mut FcInfo<'fcx>) -> Datum<'fcx> {
        match self.into_datum() {
            // SAFETY: the datum is of the type that the SQL function returns.
            Some(datum) => unsafe { fcinfo.return_raw_datum(datum) },
            None => fcinfo.return_null(),
        }
    }
}

pgrx::impl_sql_translatable!(Embedding, "embedding");

#[pg_extern(sql = false)]
fn embedding_in(literal: &CStr) -> Embedding {
    Embedding::parse(&super::utf8(literal.to_bytes())).or_raise()
}

#[pg_extern(sql = false)]
fn embedding_out(value: Embedding) -> CString {
    let literal = value.literal();
    // No value has a NUL in it: `checked` stands before every way in that could bring one.
    CString::new(super::to_server_encoding(&literal)).expect("a literal has no null character")
}

/// The message is wholly ours to read: an incomplete or overlong one is an ERROR, as is any byte out of place.
#[pg_extern(sql = false)]
fn embedding_recv(message: pgrx::datum::Internal) -> Embedding {
    let code = PgSqlErrorCode::ERRCODE_INVALID_BINARY_REPRESENTATION;
    // SAFETY: Postgres calls a receive function with a StringInfo, whose cursor stands at what is left to read.
    let bytes = unsafe {
        let message = message.unwrap().expect("a receive function gets a message");
        let message = message.cast_mut_ptr::<pg_sys::StringInfoData>();
        let len = (*message).len - (*message).cursor;
        std::slice::from_raw_parts(pg_sys::pq_getmsgbytes(message, len).cast::<u8>(), len as usize)
    };
    Value::decode(bytes)
        .map_err(|reason| Error::new(code, "invalid binary form of an embedding").detail(reason))
        .and_then(|value| value.checked().map_err(|fault| refused(code, fault)))
        .map(Embedding::in_this_database)
        .or_raise()
}

#[pg_extern(sql = false)]
fn embedding_send(value: &[u8]) -> Vec<u8> {
    value.to_vec()
}

/// Whether ANALYZE is to look at a column or an expression of this type: no. It would copy the texts of thousands of rows
/// into memory and the most common ones into the catalog, and no plan would be better for it.
#[pg_extern(sql = false)]
fn embedding_typanalyze(_statistics: pgrx::datum::Internal) -> bool {
    false
}

/// The cast to `real[]`, which computes the vector.
#[pg_extern(sql = false)]
fn embedding_to_reals(value: Embedding) -> Vec<f32> {
    guard::outside_index(Work::Cast, || value.vector(&model::default_name())).or_raise().to_vec()
}

#[pg_extern(sql = false)]
fn embedding_from_numbers(numbers: Numbers) -> Embedding {
    Embedding::dense(numbers.0).map_err(Error::invalid).or_raise()
}

/// The cast from text: the rule for literals.
#[pg_extern(sql = false)]
fn embedding_from_text(text: Text) -> Embedding {
    Embedding::parse(&text.0).or_raise()
}
