//! The type `embedding`: a vector, or a text whose vector nobody has needed yet.
//!
//! No function of the type itself calls a model. `embedding_of(body)` in a table of a million rows costs a million
//! copies of text; what needs the vectors (the distance operators, the cast to `real[]`, an index) computes them, many
//! at a time where it can.
//!
//! # Literals
//! * `[0.6, 0.8]`: a string that is wholly a list of numbers in brackets is a vector, scaled to unit length.
//! * `leann:{"text":"…","role":"passage","model":"…"}`: any deferred value. `role` is query if left out; without
//!   `model`, the default model of whoever needs the vector is meant.
//! * Anything else is a deferred query: the string is the text.
//!
//! Output is the shortest of these that reads back as the same value.
//!
//! # Bytes
//! The same on disk and in the binary protocol; numbers in network byte order. Equal values have equal bytes, so that
//! `=` and hashing are those of `bytea`.
//!
//! | bytes | |
//! |---|---|
//! | 1 | kind: 1 deferred, 2 a vector |
//! | 1 | role: 1 query, 2 passage; 0 in a vector |
//! | 2 | length of the model's name; 0 if there is none |
//! | 4 | reserved, 0 |
//! | | deferred: the model's name, then the text, both UTF-8; a vector: its numbers |

use std::borrow::Cow;
use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::fmt::Write;
use std::ptr;
use std::rc::Rc;

use leann_embed::Role;
use pgrx::callconv::{Arg, ArgAbi, BoxRet, FcInfo};
use pgrx::datum::{Datum, FromDatum, IntoDatum};
use pgrx::pg_sys::errcodes::PgSqlErrorCode;
use pgrx::prelude::*;
use serde::{Deserialize, Serialize};

use super::{Reals, Text};
use crate::error::{Error, OrRaise, Result};
use crate::model;

/// Most dimensions of a vector.
pub const MAX_DIM: usize = 16_000;

/// A vector this near to unit length is left as it is, so that writing one out and reading it back changes no bit.
const UNIT_TOLERANCE: f64 = 1e-6;

const PREFIX: usize = 8;
const KIND_DEFERRED: u8 = 1;
const KIND_DENSE: u8 = 2;
const ROLE_QUERY: u8 = 1;
const ROLE_PASSAGE: u8 = 2;

/// A value of the SQL type `embedding`. A text has no NUL byte; a vector has unit length and 1 to `MAX_DIM` numbers.
#[derive(Clone, Debug, PartialEq)]
pub enum Embedding {
    Deferred { text: String, role: Role, model: Option<String> },
    Dense(Vec<f32>),
}

/// The vectors of several values, those to be computed by the same model in the same role together: each as
/// `Embedding::vector` gives it.
pub fn vectors(values: &[&Embedding], model: &str) -> Result<Vec<Rc<[f32]>>> {
    let mut vectors: Vec<Option<Rc<[f32]>>> = vec![None; values.len()];
    let mut deferred: HashMap<(&str, Role), Vec<(usize, &str)>> = HashMap::new();
    for (at, value) in values.iter().enumerate() {
        match value {
            Embedding::Dense(numbers) => vectors[at] = Some(Rc::from(numbers.as_slice())),
            Embedding::Deferred { text, role, model: own } => {
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

/// The structured literal, after `leann:`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Structured<'a> {
    text: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "LiteralRole::is_query")]
    role: LiteralRole,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    model: Option<Cow<'a, str>>,
}

#[derive(Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum LiteralRole {
    #[default]
    Query,
    Passage,
}

impl LiteralRole {
    fn is_query(&self) -> bool {
        *self == LiteralRole::Query
    }
}

const STRUCTURED_PREFIX: &str = "leann:";

impl Embedding {
    /// A query: the text of a literal, or of the right operand of a distance operator.
    pub fn query(text: String) -> Embedding {
        Embedding::Deferred { text, role: Role::Query, model: None }
    }

    /// A vector of any length but zero, scaled to unit length. The error says what is wrong with the numbers.
    pub fn dense(mut numbers: Vec<f32>) -> Result<Embedding, String> {
        if numbers.is_empty() {
            return Err("an embedding must have at least one dimension".to_owned());
        }
        if numbers.len() > MAX_DIM {
            return Err(format!(
                "an embedding cannot have more than {MAX_DIM} dimensions, not {}",
                numbers.len()
            ));
        }
        if let Some(odd) = numbers.iter().find(|number| !number.is_finite()) {
            return Err(format!(
                "an embedding must not contain {}",
                if odd.is_nan() { "NaN" } else { "infinity" }
            ));
        }
        let norm = numbers.iter().map(|&number| f64::from(number).powi(2)).sum::<f64>().sqrt();
        if norm == 0.0 {
            return Err("an embedding must not be all zeros, which point nowhere".to_owned());
        }
        let scale = if (norm - 1.0).abs() <= UNIT_TOLERANCE { 1.0 } else { norm.recip() };
        for number in &mut numbers {
            // Adding 0 makes -0 of a vector 0, so that equal vectors have equal bytes.
            *number = (f64::from(*number) * scale) as f32 + 0.0;
        }
        Ok(Embedding::Dense(numbers))
    }

    /// The model that the value itself names.
    pub fn model(&self) -> Option<&str> {
        match self {
            Embedding::Deferred { model, .. } => model.as_deref(),
            Embedding::Dense(_) => None,
        }
    }

    /// The vector; a deferred one from the model that it names, else from `model`. Unit length.
    pub fn vector(&self, model: &str) -> Result<Rc<[f32]>> {
        match self {
            Embedding::Dense(numbers) => Ok(Rc::from(numbers.as_slice())),
            Embedding::Deferred { text, role, model: own } => {
                let model = own.as_deref().unwrap_or(model);
                Ok(model::embed(model, *role, &[text])?.swap_remove(0))
            }
        }
    }

    /// Reads a literal.
    pub fn parse(literal: &str) -> Result<Embedding> {
        if let Some(numbers) = numbers(literal) {
            let refused = |reason| Error::new(PgSqlErrorCode::ERRCODE_INVALID_TEXT_REPRESENTATION, reason);
            return Embedding::dense(numbers.map_err(refused)?).map_err(refused);
        }
        match structured(literal) {
            Some(value) => value.into_embedding(),
            None => Ok(Embedding::query(literal.to_owned())),
        }
    }

    /// The literal that `parse` reads as this value.
    pub fn literal(&self) -> String {
        match self {
            Embedding::Dense(vector) => dense_literal(vector),
            Embedding::Deferred { text, role: Role::Query, model: None }
                if numbers(text).is_none() && structured(text).is_none() =>
            {
                text.clone()
            }
            Embedding::Deferred { text, role, model } => {
                let value = Structured {
                    text: Cow::Borrowed(text),
                    role: match role {
                        Role::Query => LiteralRole::Query,
                        Role::Passage => LiteralRole::Passage,
                    },
                    model: model.as_deref().map(Cow::Borrowed),
                };
                let json = serde_json::to_string(&value).expect("strings are always JSON");
                format!("{STRUCTURED_PREFIX}{json}")
            }
        }
    }

    fn encoded_len(&self) -> usize {
        PREFIX
            + match self {
                Embedding::Deferred { text, model, .. } => {
                    model.as_deref().unwrap_or_default().len() + text.len()
                }
                Embedding::Dense(numbers) => size_of_val(numbers.as_slice()),
            }
    }

    /// Writes the value's bytes; `out` has `encoded_len` of them.
    fn encode(&self, out: &mut [u8]) {
        let (prefix, body) = out.split_at_mut(PREFIX);
        prefix.fill(0);
        match self {
            Embedding::Deferred { text, role, model } => {
                let model = model.as_deref().unwrap_or_default();
                prefix[0] = KIND_DEFERRED;
                prefix[1] = match role {
                    Role::Query => ROLE_QUERY,
                    Role::Passage => ROLE_PASSAGE,
                };
                // A model's name has at most 255 bytes: `require_name` stands before every way to make a value.
                prefix[2..4].copy_from_slice(&(model.len() as u16).to_be_bytes());
                let (name, rest) = body.split_at_mut(model.len());
                name.copy_from_slice(model.as_bytes());
                rest.copy_from_slice(text.as_bytes());
            }
            Embedding::Dense(numbers) => {
                prefix[0] = KIND_DENSE;
                for (out, number) in body.chunks_exact_mut(4).zip(numbers) {
                    out.copy_from_slice(&number.to_be_bytes());
                }
            }
        }
    }

    /// Reads a value's bytes, and trusts none of them. The error says what is wrong.
    fn decode(bytes: &[u8]) -> Result<Embedding, &'static str> {
        let Some((&[kind, role, high, low, 0, 0, 0, 0], body)) = bytes.split_first_chunk::<PREFIX>() else {
            return Err("its prefix is not one of an embedding");
        };
        let model_len = usize::from(u16::from_be_bytes([high, low]));
        match (kind, role) {
            (KIND_DENSE, 0) if model_len == 0 => {
                let (numbers, []) = body.as_chunks::<4>() else {
                    return Err("its length is not one of a vector");
                };
                if numbers.is_empty() || numbers.len() > MAX_DIM {
                    return Err("its number of dimensions is impossible");
                }
                Ok(Embedding::Dense(numbers.iter().map(|bytes| f32::from_be_bytes(*bytes)).collect()))
            }
            (KIND_DEFERRED, ROLE_QUERY | ROLE_PASSAGE) => {
                let role = if role == ROLE_QUERY { Role::Query } else { Role::Passage };
                let (model, text) = body.split_at_checked(model_len).ok_or("its model's name is cut off")?;
                let model = str::from_utf8(model).map_err(|_| "its model's name is not UTF-8")?;
                let text = str::from_utf8(text).map_err(|_| "its text is not UTF-8")?;
                Ok(Embedding::Deferred {
                    text: text.to_owned(),
                    role,
                    model: (!model.is_empty()).then(|| model.to_owned()),
                })
            }
            _ => Err("it is of no known kind"),
        }
    }

    /// Whether every part of a value that came from a client can be one: what `decode` does not look at.
    fn checked(self, code: PgSqlErrorCode) -> Result<Embedding> {
        match self {
            Embedding::Dense(numbers) => Embedding::dense(numbers).map_err(|reason| Error::new(code, reason)),
            Embedding::Deferred { ref text, ref model, .. } => {
                if text.contains('\0') {
                    return Err(Error::new(
                        code,
                        "the text of an embedding must not contain a null character",
                    ));
                }
                model.as_deref().map_or(Ok(()), model::require_name)?;
                // A text that the database could not write out again must not come in.
                super::to_server_encoding(text);
                Ok(self)
            }
        }
    }
}

impl Structured<'_> {
    fn into_embedding(self) -> Result<Embedding> {
        let value = Embedding::Deferred {
            text: self.text.into_owned(),
            role: match self.role {
                LiteralRole::Query => Role::Query,
                LiteralRole::Passage => Role::Passage,
            },
            model: self.model.map(Cow::into_owned),
        };
        value.checked(PgSqlErrorCode::ERRCODE_INVALID_TEXT_REPRESENTATION)
    }
}

fn structured(literal: &str) -> Option<Structured<'_>> {
    let json = literal.strip_prefix(STRUCTURED_PREFIX).filter(|json| json.starts_with('{'))?;
    serde_json::from_str(json).ok()
}

/// The numbers of a literal that is wholly a list of numbers in brackets; `None` if it is anything else.
fn numbers(literal: &str) -> Option<Result<Vec<f32>, String>> {
    let inner = literal.trim_ascii().strip_prefix('[')?.strip_suffix(']')?.trim_ascii();
    if inner.is_empty() {
        return Some(Ok(Vec::new()));
    }
    let mut numbers = Vec::new();
    let mut too_large = None;
    for item in inner.split(',') {
        let item = item.trim_ascii();
        let number: f32 = item.parse().ok()?;
        if number.is_infinite() && item.contains(|c: char| c.is_ascii_digit()) {
            too_large = Some(item);
        }
        numbers.push(number);
    }
    Some(match too_large {
        Some(item) => Err(format!("\"{item}\" is out of range for type real")),
        None => Ok(numbers),
    })
}

/// Each number in the fewest digits that read back as the same.
fn dense_literal(vector: &[f32]) -> String {
    let mut literal = String::with_capacity(vector.len() * 12);
    for (at, number) in vector.iter().enumerate() {
        literal.push(if at == 0 { '[' } else { ',' });
        let written = if *number == 0.0 || number.abs() >= 1e-4 {
            write!(literal, "{number}")
        } else {
            write!(literal, "{number:e}")
        };
        written.expect("a String takes any text");
    }
    literal.push(']');
    literal
}

impl FromDatum for Embedding {
    unsafe fn from_polymorphic_datum(
        datum: pg_sys::Datum,
        is_null: bool,
        _: pg_sys::Oid,
    ) -> Option<Embedding> {
        // SAFETY: the caller vouches for a datum of a varlena type; detoasting takes any form of it.
        let bytes = unsafe { <&[u8]>::from_datum(datum, is_null) }?;
        Some(Embedding::decode(bytes).unwrap_or_else(|reason| {
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
        pgrx::wrappers::regtypein("public.embedding")
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
    Embedding::decode(bytes)
        .map_err(|reason| Error::new(code, "invalid binary form of an embedding").detail(reason))
        .and_then(|value| value.checked(code))
        .or_raise()
}

#[pg_extern(sql = false)]
fn embedding_send(value: &[u8]) -> Vec<u8> {
    value.to_vec()
}

/// The cast to `real[]`, which computes the vector.
#[pg_extern(sql = false)]
fn embedding_to_reals(value: Embedding) -> Vec<f32> {
    value.vector(&model::default_name()).or_raise().to_vec()
}

#[pg_extern(sql = false)]
fn embedding_from_reals(numbers: Reals) -> Embedding {
    Embedding::dense(numbers.0).map_err(Error::invalid).or_raise()
}

/// The cast from text: the rule for literals.
#[pg_extern(sql = false)]
fn embedding_from_text(text: Text) -> Embedding {
    Embedding::parse(&text.0).or_raise()
}
