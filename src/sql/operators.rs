//! The distance operators: `<->` (L2), `<=>` (cosine) and `<#>` (negative inner product).
//!
//! Embeddings have unit length, so all three are functions of one number, the square d² of the L2 distance:
//! d, d²/2 and d²/2 - 1. It is summed from differences. Computed from the inner product, as 2 - 2s, it would
//! contain the rounding error of s, which is large near 0, between a text and its copy. All three distances
//! order rows alike, including ties.

use std::borrow::Cow;
use std::rc::Rc;

use pgrx::datum::FromDatum;
use pgrx::pg_sys::errcodes::PgSqlErrorCode;
use pgrx::prelude::*;

use crate::error::{Error, OrRaise, Result};
use crate::model;
use crate::model::guard::{self, Purpose};
use crate::model::returned_rows::{self, ReturnedDistance};
use crate::value::{self, Embedding, Numbers, Text};
use leann_value::{Role, Value};
use leann_vector::exact_squared_distance;

/// A distance. Its number is the operator's strategy in the operator class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Strategy {
    L2 = 1,
    Cosine = 2,
    NegativeInnerProduct = 3,
}

impl Strategy {
    /// Returns the strategy of a number.
    pub fn of_number(number: u16) -> Option<Strategy> {
        [Strategy::L2, Strategy::Cosine, Strategy::NegativeInnerProduct]
            .into_iter()
            .find(|strategy| *strategy as u16 == number)
    }

    /// Returns whether a distance can be as small as this.
    pub fn is_possible(self, distance: f64) -> bool {
        distance >= self.distance(0.0)
    }

    /// Returns the square of the L2 distance of two unit vectors at this distance.
    pub fn squared(self, distance: f64) -> f64 {
        match self {
            Strategy::L2 => distance * distance,
            Strategy::Cosine => 2.0 * distance,
            Strategy::NegativeInnerProduct => 2.0 * (distance + 1.0),
        }
    }

    /// Returns the distance of two unit vectors whose L2 distance has this square.
    pub fn distance(self, squared: f64) -> f64 {
        match self {
            Strategy::L2 => squared.sqrt(),
            Strategy::Cosine => squared / 2.0,
            Strategy::NegativeInnerProduct => squared / 2.0 - 1.0,
        }
    }
}

/// Returns the similarity (inner product) of two unit vectors whose L2 distance has this square.
pub fn similarity(squared: f64) -> f64 {
    1.0 - squared / 2.0
}

/// Returns an error that names both numbers if the dimensions of two operands differ.
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

/// Returns the right operand of a distance operator from its datum and the type that the operator declares,
/// as an order-by scan key holds them. `embedding` is the type of the left operand, and `dim` the dimensions
/// of the model.
///
/// # Safety
/// The datum is a non-null value of that type.
pub unsafe fn query_from_datum(
    datum: pg_sys::Datum,
    type_oid: pg_sys::Oid,
    embedding: pg_sys::Oid,
    dim: usize,
) -> Result<Embedding> {
    const NOT_NULL: &str = "the operand is not null";
    // SAFETY: the caller promises the type by which the datum is read.
    unsafe {
        match type_oid {
            pg_sys::TEXTOID => {
                Ok(Embedding::operand(&Text::from_datum(datum, false).expect(NOT_NULL).0, dim))
            }
            other if value::NUMBER_ARRAYS.contains(&other) => {
                Embedding::dense(value::numbers(datum)?).map_err(Error::invalid)
            }
            // The type itself, or leann.query, which is a domain over it.
            other if pg_sys::getBaseType(other) == embedding => {
                Ok(Embedding::from_datum(datum, false).expect(NOT_NULL))
            }
            other => Err(Error::new(
                PgSqlErrorCode::ERRCODE_DATATYPE_MISMATCH,
                format!("type {} cannot be the right operand of a distance", other.to_u32()),
            )),
        }
    }
}

/// Returns the model of two operands. It is the row's model: the row is the left operand, or the right one if
/// only that is a passage. A query cannot choose another model. An index has one model, and distances without
/// the index use the same one.
fn common_model<'a>(a: &'a Embedding, b: &'a Embedding) -> Result<Cow<'a, str>> {
    let is =
        |value: &Embedding, wanted: Role| matches!(&value.0, Value::Deferred { role, .. } if *role == wanted);
    let (a, b) = if is(a, Role::Query) && is(b, Role::Passage) { (b, a) } else { (a, b) };
    let model = match (a.model(), &a.0) {
        (Some(model), _) => Cow::Borrowed(model),
        // A vector on the left may come from any model of its dimensions.
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

/// Returns the dimensions that the right operand of a distance must have.
fn dimensions(a: &Embedding) -> Result<usize> {
    match &a.0 {
        Value::Dense(vector) => Ok(vector.len()),
        Value::Deferred { model, .. } => {
            let model = model.as_deref().map_or_else(|| model::default_name().into(), Cow::Borrowed);
            Ok(model::get(&model)?.dim())
        }
    }
}

/// Returns the distance of two values, and counts the embeddings that this computes. None for a row that an
/// index scan has just returned by its estimate.
fn distance(strategy: Strategy, a: &Embedding, b: &Embedding) -> Result<Option<f64>> {
    guard::outside_index(Purpose::Distance, || computed_distance(strategy, a, b))
}

/// Returns the distance of two values, from an index scan if it has just found it.
fn computed_distance(strategy: Strategy, a: &Embedding, b: &Embedding) -> Result<Option<f64>> {
    let model = common_model(a, b)?;
    match known_distance(&model, a, b)? {
        Some(ReturnedDistance::Exact(squared) | ReturnedDistance::Estimated(squared)) => {
            return Ok(Some(strategy.distance(squared)));
        }
        Some(ReturnedDistance::Unknown) => return Ok(None),
        None => {}
    }
    let (a, b): (Rc<[f32]>, Rc<[f32]>) = (model::vector(a, &model)?, model::vector(b, &model)?);
    require_same_dimensions(a.len(), b.len())?;
    Ok(Some(strategy.distance(exact_squared_distance(&a, &b))))
}

/// Returns the distance if an index scan has just returned the row. Does not run the model for the row.
fn known_distance(model: &str, a: &Embedding, b: &Embedding) -> Result<Option<ReturnedDistance>> {
    let is_row = |value: &Embedding| matches!(value.0, Value::Deferred { role: Role::Passage, .. });
    let (row, query) = if is_row(a) { (a, b) } else { (b, a) };
    match &row.0 {
        Value::Deferred { text, role: Role::Passage, .. } if !returned_rows::is_empty() => {
            let key = model::get(model)?.key(Role::Passage, text);
            Ok(returned_rows::distance(&key, &model::vector(query, model)?))
        }
        _ => Ok(None),
    }
}

fn distance_to_text(strategy: Strategy, a: &Embedding, text: &Text) -> Option<f64> {
    dimensions(a).and_then(|dim| distance(strategy, a, &Embedding::operand(&text.0, dim))).or_raise()
}

fn distance_to_numbers(strategy: Strategy, a: &Embedding, numbers: Numbers) -> Option<f64> {
    Embedding::dense(numbers.0).map_err(Error::invalid).and_then(|b| distance(strategy, a, &b)).or_raise()
}

#[pg_extern(sql = false)]
fn embedding_l2(a: Embedding, b: Embedding) -> Option<f64> {
    distance(Strategy::L2, &a, &b).or_raise()
}

#[pg_extern(sql = false)]
fn embedding_l2_text(a: Embedding, b: Text) -> Option<f64> {
    distance_to_text(Strategy::L2, &a, &b)
}

#[pg_extern(sql = false)]
fn embedding_l2_numbers(a: Embedding, b: Numbers) -> Option<f64> {
    distance_to_numbers(Strategy::L2, &a, b)
}

#[pg_extern(sql = false)]
fn embedding_cosine(a: Embedding, b: Embedding) -> Option<f64> {
    distance(Strategy::Cosine, &a, &b).or_raise()
}

#[pg_extern(sql = false)]
fn embedding_cosine_text(a: Embedding, b: Text) -> Option<f64> {
    distance_to_text(Strategy::Cosine, &a, &b)
}

#[pg_extern(sql = false)]
fn embedding_cosine_numbers(a: Embedding, b: Numbers) -> Option<f64> {
    distance_to_numbers(Strategy::Cosine, &a, b)
}

#[pg_extern(sql = false)]
fn embedding_negative_inner_product(a: Embedding, b: Embedding) -> Option<f64> {
    distance(Strategy::NegativeInnerProduct, &a, &b).or_raise()
}

#[pg_extern(sql = false)]
fn embedding_negative_inner_product_text(a: Embedding, b: Text) -> Option<f64> {
    distance_to_text(Strategy::NegativeInnerProduct, &a, &b)
}

#[pg_extern(sql = false)]
fn embedding_negative_inner_product_numbers(a: Embedding, b: Numbers) -> Option<f64> {
    distance_to_numbers(Strategy::NegativeInnerProduct, &a, b)
}
