//! The functions that the extension adds to SQL in addition to the access method. `sql/leann.sql`, written by
//! hand, creates the SQL objects.

mod cost;
mod embedding;
pub mod functions;
pub mod operators;
