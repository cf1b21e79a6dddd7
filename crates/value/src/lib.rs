//! Values of the SQL type `leann.embedding`: a vector, or a text whose vector nobody has needed yet. Here is what they are,
//! how a literal is read and written (`literal`), what a text means that they are compared with (`operand`), and their bytes
//! on disk and on the wire (`bytes`). All of it takes any input without a panic: it comes from clients.

#![forbid(unsafe_code)]

mod bytes;
mod literal;
mod operand;

/// Most dimensions of a vector, here and in all that keeps or makes one.
pub const MAX_DIM: usize = 16_000;

/// Longest name of a model, in bytes: what an index's meta page has room for.
pub const MAX_NAME: usize = 127;

/// A vector this near to unit length is left as it is, so that writing one out and reading it back changes no bit.
const UNIT_TOLERANCE: f64 = 1e-6;

/// What a text is to the model: many models want another prompt before a query than before a row text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    Query,
    Passage,
}

/// A value. A text has no NUL character, a model's name passes `check_name`, a vector has unit length and 1 to `MAX_DIM`
/// numbers: `checked` says so of a value that came from elsewhere.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Deferred { text: String, role: Role, model: Option<String> },
    Dense(Vec<f32>),
}

/// Why something cannot be a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// What is wrong with the numbers, the text or the literal.
    Content(String),
    /// What is wrong with the model's name, as a predicate: "must not be empty".
    ModelName(&'static str),
}

impl Value {
    /// A query: the text of a literal, or of the right operand of a distance operator.
    pub fn query(text: String) -> Value {
        Value::Deferred { text, role: Role::Query, model: None }
    }

    /// A vector of any length but zero, scaled to unit length. The error says what is wrong with the numbers.
    pub fn dense(mut numbers: Vec<f32>) -> Result<Value, String> {
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
        Ok(Value::Dense(numbers))
    }

    /// The model that the value itself names.
    pub fn model(&self) -> Option<&str> {
        match self {
            Value::Deferred { model, .. } => model.as_deref(),
            Value::Dense(_) => None,
        }
    }

    /// The value, if every part of it can be one: what `decode` does not look at. A vector is scaled to unit length.
    pub fn checked(self) -> Result<Value, Fault> {
        match self {
            Value::Dense(numbers) => Value::dense(numbers).map_err(Fault::Content),
            Value::Deferred { ref text, ref model, .. } => {
                if text.contains('\0') {
                    let reason = "the text of an embedding must not contain a null character";
                    return Err(Fault::Content(reason.to_owned()));
                }
                model.as_deref().map_or(Ok(()), check_name).map_err(Fault::ModelName)?;
                Ok(self)
            }
        }
    }
}

/// Whether `name` can be the name of a model: one plain folder name. The error is a predicate: "must not be empty".
pub fn check_name(name: &str) -> Result<(), &'static str> {
    match name {
        "" => Err("must not be empty"),
        _ if name.len() > MAX_NAME => Err("must not be longer than 127 bytes"),
        _ if name.starts_with('.') => Err("must not begin with a dot"),
        _ if name.contains(['/', '\\']) => Err("must not contain a slash"),
        _ if name.contains(char::is_control) => Err("must not contain control characters"),
        _ => Ok(()),
    }
}
