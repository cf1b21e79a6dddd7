//! Literals of the type, as they occur in dumps, casts and columns. (`operand` interprets the text operand of
//! a distance.)
//!
//! * `[0.6, 0.8]`: a string that consists of a list of numbers in brackets is a vector, scaled to unit
//!   length.
//! * `leann:{"text":"…","role":"passage","model":"…"}`: any deferred value. The default of `role` is query;
//!   without `model`, the reader chooses the model.
//! * Any other string is the text of a deferred query.
//!
//! A value is written in the shortest of these forms that reads back as the same value.

use std::borrow::Cow;
use std::fmt::Write;

use serde::{Deserialize, Serialize};

use crate::{Role, Value, ValueError};

/// Prefix of a structured literal; JSON follows.
const STRUCTURED_PREFIX: &str = "leann:";

/// The JSON of a structured literal.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Structured<'a> {
    text: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "LiteralRole::is_query")]
    role: LiteralRole,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    model: Option<Cow<'a, str>>,
}

/// [`Role`] as it is written in JSON.
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

impl Value {
    /// Reads a literal.
    ///
    /// # Errors
    /// [`ValueError::OutOfRange`] for a number of a vector; otherwise those of [`Value::checked`].
    pub fn parse(literal: &str) -> Result<Value, ValueError> {
        if let Some(numbers) = numbers(literal) {
            return Value::dense(numbers?);
        }
        match structured(literal) {
            Some(value) => value.into_value().checked(),
            None => Ok(Value::query(literal.to_owned())),
        }
    }

    /// Returns the literal that [`Value::parse`] reads as this value.
    pub fn literal(&self) -> String {
        match self {
            Value::Dense(vector) => dense_literal(vector),
            Value::Deferred { text, role: Role::Query, model: None }
                if numbers(text).is_none() && structured(text).is_none() =>
            {
                text.clone()
            }
            Value::Deferred { text, role, model } => {
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
}

impl Structured<'_> {
    fn into_value(self) -> Value {
        Value::Deferred {
            text: self.text.into_owned(),
            role: match self.role {
                LiteralRole::Query => Role::Query,
                LiteralRole::Passage => Role::Passage,
            },
            model: self.model.map(Cow::into_owned),
        }
    }
}

/// Reads the JSON of a structured literal; `None` if the string is anything else.
fn structured(literal: &str) -> Option<Structured<'_>> {
    let json = literal.strip_prefix(STRUCTURED_PREFIX).filter(|json| json.starts_with('{'))?;
    serde_json::from_str(json).ok()
}

/// Reads the numbers of a literal that consists of a list of numbers in brackets; `None` if the string is
/// anything else.
fn numbers(literal: &str) -> Option<Result<Vec<f32>, ValueError>> {
    let inner = literal.trim_ascii().strip_prefix('[')?.strip_suffix(']')?.trim_ascii();
    if inner.is_empty() {
        return Some(Ok(Vec::new()));
    }
    let mut numbers = Vec::new();
    let mut fault = None;
    for item in inner.split(',') {
        match number(item.trim_ascii())? {
            Ok(number) => numbers.push(number),
            Err(reason) => fault = Some(reason),
        }
    }
    Some(fault.map_or(Ok(numbers), Err))
}

/// Reads a number; `None` if the string is anything else.
pub(crate) fn number(item: &str) -> Option<Result<f32, ValueError>> {
    let number: f32 = item.parse().ok()?;
    let too_large = number.is_infinite() && item.contains(|c: char| c.is_ascii_digit());
    Some(if too_large { Err(ValueError::OutOfRange(item.to_owned())) } else { Ok(number) })
}

/// Writes a vector, each number with the fewest digits that read back as the same number.
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
