//! The value itself, and the conditions on its parts.

use crate::error::ValueError;
use crate::limits::MAX_DIM;
use crate::model_name::check_name;
use crate::role::Role;

/// Deviation from length 1 up to which a vector counts as a unit vector and is not scaled. It lets a vector
/// that is written as a literal and read back keep every bit.
const UNIT_TOLERANCE: f64 = 1e-6;

/// A value of type `embedding`. [`Value::checked`] verifies the conditions on the parts of a value that was
/// decoded or put together by hand.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A text that a model embeds when the vector is needed.
    Deferred {
        /// The text, without NUL characters.
        text: String,
        /// The role in which the model embeds the text.
        role: Role,
        /// Name of the model, which [`check_name`] accepts; `None` leaves the choice to the reader.
        model: Option<String>,
    },
    /// A vector of unit length with 1 to [`MAX_DIM`] numbers.
    Dense(Vec<f32>),
}

impl Value {
    /// Returns a deferred text in the query role that names no model.
    pub fn query(text: String) -> Value {
        Value::Deferred { text, role: Role::Query, model: None }
    }

    /// Returns a vector, scaled to unit length.
    ///
    /// # Errors
    /// [`ValueError::NoDimensions`], [`ValueError::TooManyDimensions`], [`ValueError::NotANumber`],
    /// [`ValueError::Infinite`], or [`ValueError::AllZeros`].
    pub fn dense(mut numbers: Vec<f32>) -> Result<Value, ValueError> {
        if numbers.is_empty() {
            return Err(ValueError::NoDimensions);
        }
        if numbers.len() > MAX_DIM {
            return Err(ValueError::TooManyDimensions(numbers.len()));
        }
        if let Some(odd) = numbers.iter().find(|number| !number.is_finite()) {
            return Err(if odd.is_nan() { ValueError::NotANumber } else { ValueError::Infinite });
        }
        let norm = numbers.iter().map(|&number| f64::from(number).powi(2)).sum::<f64>().sqrt();
        if norm == 0.0 {
            return Err(ValueError::AllZeros);
        }
        let scale = if (norm - 1.0).abs() <= UNIT_TOLERANCE { 1.0 } else { norm.recip() };
        for number in &mut numbers {
            // Adding 0 turns -0 into 0, so that equal vectors have equal bytes.
            *number = (f64::from(*number) * scale) as f32 + 0.0;
        }
        Ok(Value::Dense(numbers))
    }

    /// Returns the model that the value itself names.
    pub fn model(&self) -> Option<&str> {
        match self {
            Value::Deferred { model, .. } => model.as_deref(),
            Value::Dense(_) => None,
        }
    }

    /// Checks what [`Value::decode`] does not check, and returns the value, a vector scaled to unit length.
    ///
    /// # Errors
    /// Those of [`Value::dense`], [`ValueError::NullCharacter`], or [`ValueError::ModelName`].
    pub fn checked(self) -> Result<Value, ValueError> {
        match self {
            Value::Dense(numbers) => Value::dense(numbers),
            Value::Deferred { ref text, ref model, .. } => {
                if text.contains('\0') {
                    return Err(ValueError::NullCharacter);
                }
                model.as_deref().map_or(Ok(()), check_name)?;
                Ok(self)
            }
        }
    }
}
