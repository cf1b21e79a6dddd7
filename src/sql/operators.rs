//! The distance operators: `<->` (L2), `<=>` (cosine) and `<#>` (negative inner product).
//!
//! Embeddings have unit length, so all three are functions of one number, the square d² of the L2 distance: d, d²/2 and
//! d²/2 - 1. It is summed from differences. From the inner product, as 2 - 2s, it would be off by the rounding of s
//! where it matters most: near 0, between a text and its copy. All three order rows alike, ties included.

use std::borrow::Cow;
use std::rc::Rc;

use pgrx::datum::FromDatum;
use pgrx::pg_sys::errcodes::PgSqlErrorCode;
use pgrx::prelude::*;

use super::embedding::Embedding;
use super::{Numbers, Text};
use crate::error::{Error, OrRaise, Result};
use crate::model::guard::{self, Work};
use crate::model::{self, known};
use leann_value::{Role, Value};

/// Which distance: its number is the operator's strategy in the operator class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Strategy {
    L2 = 1,
    Cosine = 2,
    NegativeInnerProduct = 3,
}

impl Strategy {
    /// The distance of two unit vectors whose L2 distance has this square.
    pub fn distance(self, squared: f64) -> f64 {
        match self {
            Strategy::L2 => squared.sqrt(),
            Strategy::Cosine => squared / 2.0,
            Strategy::NegativeInnerProduct => squared / 2.0 - 1.0,
        }
    }
}

/// Square of the L2 distance of two vectors of the same length. The same two vectors give the same bits, and a vector
/// and itself give 0.
pub fn squared_distance(a: &[f32], b: &[f32]) -> f64 {
    debug_assert_eq!(a.len(), b.len());
    // Eight sums side by side, because one alone would forbid the compiler to use SIMD.
    let mut sums = [0.0f64; 8];
    let (a, a_rest) = a.as_chunks::<8>();
    let (b, b_rest) = b.as_chunks::<8>();
    for (a, b) in a.iter().zip(b) {
        for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            let difference = f64::from(*a) - f64::from(*b);
            *sum += difference * difference;
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum();
    sums.iter().sum::<f64>() + rest
}

/// The similarity (inner product) of two unit vectors whose L2 distance has this square.
pub fn similarity(squared: f64) -> f64 {
    1.0 - squared / 2.0
}

/// Two vectors as the arguments of a distance: an error, with both numbers, if their dimensions differ.
pub fn require_same_dimensions(a: usize, b: usize) -> Result<()> {
    if a == b {
        return Ok(());
    }
    Err(Error::new(
        PgSqlErrorCode::ERRCODE_DATA_EXCEPTION,
        format!("different embedding dimensions {a} and {b}"),
    )
    .hint("Only embeddings of the same model can be compared."))
}

/// The right operand of a distance operator, from its datum and the type that the operator declares, as an order-by scan
/// key holds them. `embedding` is the type of the left operand, `dim` the dimensions of the model.
///
/// # Safety
/// The datum must be a non-null value of that type.
pub unsafe fn query_from_datum(
    datum: pg_sys::Datum,
    type_oid: pg_sys::Oid,
    embedding: pg_sys::Oid,
    dim: usize,
) -> Result<Embedding> {
    const NOT_NULL: &str = "the operand is not null";
    // SAFETY: each datum is read as what its type says.
    unsafe {
        match type_oid {
            pg_sys::TEXTOID => {
                Ok(Embedding::operand(&Text::from_datum(datum, false).expect(NOT_NULL).0, dim))
            }
            other if super::NUMBER_ARRAYS.contains(&other) => {
                Embedding::dense(super::numbers(datum)?).map_err(Error::invalid)
            }
            // The type itself, or leann.query, a domain over it.
            other if pg_sys::getBaseType(other) == embedding => {
                Ok(Embedding::from_datum(datum, false).expect(NOT_NULL))
            }
            other => Err(Error::new(
                PgSqlErrorCode::ERRCODE_DATATYPE_MISMATCH,
                format!("a distance has no right operand of type {}", other.to_u32()),
            )),
        }
    }
}

/// The model of two operands: that of the row's, which is the left one, or the right one if only that is a passage. The query
/// cannot choose another, whatever it is; an index has one model, and so have its distances without it.
fn common_model<'a>(a: &'a Embedding, b: &'a Embedding) -> Result<Cow<'a, str>> {
    let is =
        |value: &Embedding, wanted: Role| matches!(&value.0, Value::Deferred { role, .. } if *role == wanted);
    let (a, b) = if is(a, Role::Query) && is(b, Role::Passage) { (b, a) } else { (a, b) };
    let model = match (a.model(), &a.0) {
        (Some(model), _) => Cow::Borrowed(model),
        // A vector on the left is of any model of its dimensions.
        (None, Value::Dense(_)) => b.model().map_or_else(|| model::default_name().into(), Cow::Borrowed),
        (None, Value::Deferred { .. }) => Cow::Owned(model::default_name()),
    };
    match b.model() {
        Some(other) if other != model => Err(Error::new(
            PgSqlErrorCode::ERRCODE_DATATYPE_MISMATCH,
            format!("embeddings of different models cannot be compared: \"{model}\" and \"{other}\""),
        )
        .hint("Name the same model on both sides.")),
        _ => Ok(model),
    }
}

/// The dimensions that the right operand of a distance must have.
fn dimensions(a: &Embedding) -> Result<usize> {
    match &a.0 {
        Value::Dense(vector) => Ok(vector.len()),
        Value::Deferred { model, .. } => {
            let model = model.as_deref().map_or_else(|| model::default_name().into(), Cow::Borrowed);
            Ok(model::get(&model)?.dim())
        }
    }
}

/// The distance of any two values.
fn distance(strategy: Strategy, a: &Embedding, b: &Embedding) -> Result<f64> {
    guard::outside_index(Work::Distance, || computed_distance(strategy, a, b))
}

fn computed_distance(strategy: Strategy, a: &Embedding, b: &Embedding) -> Result<f64> {
    let model = common_model(a, b)?;
    if let Some(squared) = known_distance(&model, a, b)? {
        return Ok(strategy.distance(squared));
    }
    let (a, b): (Rc<[f32]>, Rc<[f32]>) = (a.vector(&model)?, b.vector(&model)?);
    require_same_dimensions(a.len(), b.len())?;
    Ok(strategy.distance(squared_distance(&a, &b)))
}

/// The square of the L2 distance if an index scan has just found it without the model.
fn known_distance(model: &str, a: &Embedding, b: &Embedding) -> Result<Option<f64>> {
    let is_row = |value: &Embedding| matches!(value.0, Value::Deferred { role: Role::Passage, .. });
    let (row, query) = if is_row(a) { (a, b) } else { (b, a) };
    match &row.0 {
        Value::Deferred { text, role: Role::Passage, .. } if !known::is_empty() => {
            let key = model::get(model)?.key(Role::Passage, text);
            Ok(known::squared_distance(&key, &query.vector(model)?))
        }
        _ => Ok(None),
    }
}

fn distance_to_text(strategy: Strategy, a: &Embedding, text: &Text) -> f64 {
    dimensions(a).and_then(|dim| distance(strategy, a, &Embedding::operand(&text.0, dim))).or_raise()
}

fn distance_to_numbers(strategy: Strategy, a: &Embedding, numbers: Numbers) -> f64 {
    Embedding::dense(numbers.0).map_err(Error::invalid).and_then(|b| distance(strategy, a, &b)).or_raise()
}

#[pg_extern(sql = false)]
fn embedding_l2(a: Embedding, b: Embedding) -> f64 {
    distance(Strategy::L2, &a, &b).or_raise()
}

#[pg_extern(sql = false)]
fn embedding_l2_text(a: Embedding, b: Text) -> f64 {
    distance_to_text(Strategy::L2, &a, &b)
}

#[pg_extern(sql = false)]
fn embedding_l2_numbers(a: Embedding, b: Numbers) -> f64 {
    distance_to_numbers(Strategy::L2, &a, b)
}

#[pg_extern(sql = false)]
fn embedding_cosine(a: Embedding, b: Embedding) -> f64 {
    distance(Strategy::Cosine, &a, &b).or_raise()
}

#[pg_extern(sql = false)]
fn embedding_cosine_text(a: Embedding, b: Text) -> f64 {
    distance_to_text(Strategy::Cosine, &a, &b)
}

#[pg_extern(sql = false)]
fn embedding_cosine_numbers(a: Embedding, b: Numbers) -> f64 {
    distance_to_numbers(Strategy::Cosine, &a, b)
}

#[pg_extern(sql = false)]
fn embedding_negative_inner_product(a: Embedding, b: Embedding) -> f64 {
    distance(Strategy::NegativeInnerProduct, &a, &b).or_raise()
}

#[pg_extern(sql = false)]
fn embedding_negative_inner_product_text(a: Embedding, b: Text) -> f64 {
    distance_to_text(Strategy::NegativeInnerProduct, &a, &b)
}

#[pg_extern(sql = false)]
fn embedding_negative_inner_product_numbers(a: Embedding, b: Numbers) -> f64 {
    distance_to_numbers(Strategy::NegativeInnerProduct, &a, b)
}
