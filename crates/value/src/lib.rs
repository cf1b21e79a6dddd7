//! Values of the SQL type `leann.embedding`: a vector, or a text whose vector is computed only when it is
//! needed.
//!
//! The modules read and write literals (`literal`), interpret the text operand of a distance (`operand`), and
//! read and write the bytes on disk and in the binary protocol (`bytes`). The input comes from clients, so
//! none of them panics whatever they read.

#![forbid(unsafe_code)]

mod bytes;
mod error;
mod limits;
mod literal;
mod model_name;
mod operand;
mod role;
mod value;

pub use error::{DecodeError, NameError, ValueError};
pub use limits::{MAX_DIM, MAX_MODEL_NAME_BYTES};
pub use model_name::check_name;
pub use role::Role;
pub use value::Value;
