//! The bytes of a value, on disk and in the binary protocol alike, with numbers in network byte order.
//! Equal values have equal bytes, so that equality and hashing are those of `bytea`.
//!
//! | bytes | meaning |
//! |---|---|
//! | 1 | kind: 1 deferred, 2 a vector |
//! | 1 | role: 1 query, 2 passage; 0 for a vector |
//! | 2 | length in bytes of the model's name; 0 if there is none |
//! | 4 | reserved, 0 |
//! | rest | deferred: the model's name, then the text, both UTF-8; vector: its numbers as f32 |

use crate::{DecodeError, MAX_DIM, Role, Value};

/// Length in bytes of what precedes the name, the text or the numbers.
const PREFIX_BYTES: usize = 8;
/// Kind byte of a deferred value.
const KIND_DEFERRED: u8 = 1;
/// Kind byte of a vector.
const KIND_DENSE: u8 = 2;
/// Role byte of a query.
const ROLE_QUERY: u8 = 1;
/// Role byte of a passage.
const ROLE_PASSAGE: u8 = 2;

impl Value {
    /// Returns the length in bytes of the encoded value.
    pub fn encoded_len(&self) -> usize {
        PREFIX_BYTES
            + match self {
                Value::Deferred { text, model, .. } => {
                    model.as_deref().unwrap_or_default().len() + text.len()
                }
                Value::Dense(numbers) => size_of_val(numbers.as_slice()),
            }
    }

    /// Encodes the value into `out`.
    ///
    /// # Panics
    /// May panic unless `out` has exactly [`Value::encoded_len`] bytes.
    pub fn encode(&self, out: &mut [u8]) {
        let (prefix, body) = out.split_at_mut(PREFIX_BYTES);
        prefix.fill(0);
        match self {
            Value::Deferred { text, role, model } => {
                let model = model.as_deref().unwrap_or_default();
                prefix[0] = KIND_DEFERRED;
                prefix[1] = match role {
                    Role::Query => ROLE_QUERY,
                    Role::Passage => ROLE_PASSAGE,
                };
                // `check_name` limits the length of a name, far below what a u16 holds.
                prefix[2..4].copy_from_slice(&(model.len() as u16).to_be_bytes());
                let (name, rest) = body.split_at_mut(model.len());
                name.copy_from_slice(model.as_bytes());
                rest.copy_from_slice(text.as_bytes());
            }
            Value::Dense(numbers) => {
                prefix[0] = KIND_DENSE;
                for (out, number) in body.chunks_exact_mut(4).zip(numbers) {
                    out.copy_from_slice(&number.to_be_bytes());
                }
            }
        }
    }

    /// Decodes a value from bytes of any origin. [`Value::checked`] checks the rest: the content of the text,
    /// the name and the numbers.
    ///
    /// # Errors
    /// The [`DecodeError`] that describes what is wrong.
    pub fn decode(bytes: &[u8]) -> Result<Value, DecodeError> {
        let Some((&[kind, role, high, low, 0, 0, 0, 0], body)) = bytes.split_first_chunk::<PREFIX_BYTES>()
        else {
            return Err(DecodeError::Prefix);
        };
        let model_len = usize::from(u16::from_be_bytes([high, low]));
        match (kind, role) {
            (KIND_DENSE, 0) if model_len == 0 => {
                let (numbers, []) = body.as_chunks::<4>() else {
                    return Err(DecodeError::VectorLength);
                };
                if numbers.is_empty() || numbers.len() > MAX_DIM {
                    return Err(DecodeError::Dimensions);
                }
                Ok(Value::Dense(numbers.iter().map(|bytes| f32::from_be_bytes(*bytes)).collect()))
            }
            (KIND_DEFERRED, ROLE_QUERY | ROLE_PASSAGE) => {
                let role = if role == ROLE_QUERY { Role::Query } else { Role::Passage };
                let (model, text) = body.split_at_checked(model_len).ok_or(DecodeError::ModelNameLength)?;
                let model = str::from_utf8(model).map_err(|_| DecodeError::ModelNameEncoding)?;
                let text = str::from_utf8(text).map_err(|_| DecodeError::TextEncoding)?;
                Ok(Value::Deferred {
                    text: text.to_owned(),
                    role,
                    model: (!model.is_empty()).then(|| model.to_owned()),
                })
            }
            _ => Err(DecodeError::Kind),
        }
    }
}
