//! Bytes: the same on disk and in the binary protocol; numbers in network byte order. Equal values have equal bytes, so
//! that `=` and hashing are those of `bytea`.
//!
//! | bytes | |
//! |---|---|
//! | 1 | kind: 1 deferred, 2 a vector |
//! | 1 | role: 1 query, 2 passage; 0 in a vector |
//! | 2 | length of the model's name; 0 if there is none |
//! | 4 | reserved, 0 |
//! | | deferred: the model's name, then the text, both UTF-8; a vector: its numbers |

use crate::{MAX_DIM, Role, Value};

const PREFIX: usize = 8;
const KIND_DEFERRED: u8 = 1;
const KIND_DENSE: u8 = 2;
const ROLE_QUERY: u8 = 1;
const ROLE_PASSAGE: u8 = 2;

impl Value {
    pub fn encoded_len(&self) -> usize {
        PREFIX
            + match self {
                Value::Deferred { text, model, .. } => {
                    model.as_deref().unwrap_or_default().len() + text.len()
                }
                Value::Dense(numbers) => size_of_val(numbers.as_slice()),
            }
    }

    /// Writes the value's bytes; `out` has `encoded_len` of them.
    pub fn encode(&self, out: &mut [u8]) {
        let (prefix, body) = out.split_at_mut(PREFIX);
        prefix.fill(0);
        match self {
            Value::Deferred { text, role, model } => {
                let model = model.as_deref().unwrap_or_default();
                prefix[0] = KIND_DEFERRED;
                prefix[1] = match role {
                    Role::Query => ROLE_QUERY,
                    Role::Passage => ROLE_PASSAGE,
                };
                // A model's name has at most 127 bytes: `check_name` stands before every way to make a value.
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

    /// Reads a value's bytes, and trusts none of them. The error says what is wrong.
    pub fn decode(bytes: &[u8]) -> Result<Value, &'static str> {
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
                Ok(Value::Dense(numbers.iter().map(|bytes| f32::from_be_bytes(*bytes)).collect()))
            }
            (KIND_DEFERRED, ROLE_QUERY | ROLE_PASSAGE) => {
                let role = if role == ROLE_QUERY { Role::Query } else { Role::Passage };
                let (model, text) = body.split_at_checked(model_len).ok_or("its model's name is cut off")?;
                let model = str::from_utf8(model).map_err(|_| "its model's name is not UTF-8")?;
                let text = str::from_utf8(text).map_err(|_| "its text is not UTF-8")?;
                Ok(Value::Deferred {
                    text: text.to_owned(),
                    role,
                    model: (!model.is_empty()).then(|| model.to_owned()),
                })
            }
            _ => Err("it is of no known kind"),
        }
    }
}
