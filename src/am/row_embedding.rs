//! Embeds rows that a build adds to an index, in batches and without the caches, and describes rows in
//! errors.

use super::errors;
use crate::error::Error;
use crate::model::Loaded;
use crate::pg::Rel;
use crate::pg::rights::Asker;
use crate::value::Embedding;
use leann_page::HeapPointer;
use leann_value::{Role, Value};
use std::collections::HashMap;

/// Maximum characters of a text that an error quotes.
const MAX_QUOTED_CHARS: usize = 60;

/// Rows of a build that are embedded together.
pub struct RowBatch<'a> {
    pub index: Rel,
    pub model: &'a Loaded,
    pub pointers: &'a [HeapPointer],
    pub values: &'a [Embedding],
}

impl RowBatch<'_> {
    /// Calls `each` with every row's embedding, in the order of the rows. Embeds a text that occurs several
    /// times once. Returns the number of rows whose text the model truncated. An error names the row that
    /// caused it.
    pub fn embed(&self, mut each: impl FnMut(&[f32])) -> usize {
        self.values.iter().enumerate().for_each(|(row, value)| self.refuse_foreign(row, value));
        let passages = self.embed_role(Role::Passage);
        let queries = self.embed_role(Role::Query);
        let mut cut = 0;
        for value in self.values {
            match &value.0 {
                Value::Dense(vector) => each(vector),
                Value::Deferred { text, role, .. } => {
                    let embedded = if *role == Role::Query { &queries } else { &passages };
                    let at = embedded.places[text.as_str()];
                    each(&embedded.vectors[at * self.model.dim()..][..self.model.dim()]);
                    cut += usize::from(embedded.cut[at]);
                }
            }
        }
        cut
    }

    /// Raises an error for a value that the index's model cannot have.
    fn refuse_foreign(&self, row: usize, value: &Embedding) {
        if let Some(fault) = errors::foreign_value(self.index, self.model, value) {
            self.with_row(fault, row).raise()
        }
    }

    /// Embeds the different texts that have a role.
    fn embed_role(&self, wanted: Role) -> EmbeddedTexts<'_> {
        let mut texts = Vec::new();
        let mut places = HashMap::new();
        for value in self.values {
            if let Value::Deferred { text, role, .. } = &value.0
                && *role == wanted
            {
                places.entry(text.as_str()).or_insert_with(|| {
                    texts.push(text.as_str());
                    texts.len() - 1
                });
            }
        }
        if texts.is_empty() {
            return EmbeddedTexts { places, vectors: Vec::new(), cut: Vec::new() };
        }
        match self.model.compute_texts(wanted, &texts) {
            Ok(embedded) => EmbeddedTexts { places, vectors: embedded.vectors, cut: embedded.truncated },
            Err(error) => self.locate_failure(error, wanted, &texts).raise(),
        }
    }

    /// Adds to an error the row whose text the model cannot embed, which it finds by bisection. Other errors
    /// stay as they are.
    fn locate_failure(&self, mut error: Error, role: Role, mut texts: &[&str]) -> Error {
        if !error.is_of_a_text() {
            return error;
        }
        while texts.len() > 1 {
            let (first, second) = texts.split_at(texts.len() / 2);
            texts = match self.failure(role, first) {
                Some(found) => {
                    error = found;
                    first
                }
                None => second,
            };
        }
        match self
            .values
            .iter()
            .position(|value| matches!(&value.0, Value::Deferred { text, .. } if text == texts[0]))
        {
            Some(row) => self.with_row(error, row),
            None => error,
        }
    }

    /// Returns the error that the model reports for one of the texts, if any.
    fn failure(&self, role: Role, texts: &[&str]) -> Option<Error> {
        self.model.compute_texts(role, texts).err().filter(Error::is_of_a_text)
    }

    /// Adds the row that caused an error to its detail.
    fn with_row(&self, error: Error, row: usize) -> Error {
        let HeapPointer { block, offset } = self.pointers[row];
        let text = match &self.values[row].0 {
            Value::Deferred { text, .. } if may_quote(self.index) => {
                format!("; its text begins \"{}\"", quoted_start(text))
            }
            _ => String::new(),
        };
        error.also(format!("The row is at ctid ({block},{offset}){text}."))
    }
}

/// Returns whether errors may quote texts of the index's table: only to a user who may read all of it. Other
/// users can make the server embed texts that they may not read, by an UPDATE of another column, or by a
/// REINDEX with the privilege MAINTAIN.
pub fn may_quote(index: Rel) -> bool {
    Asker::now().reads_whole(index.table_oid())
}

/// Describes the row of an insert for an error's detail.
pub fn insert_detail(index: &str, value: &Embedding, quote: bool) -> String {
    let row = match &value.0 {
        Value::Deferred { text, .. } if quote => {
            format!("A row whose text begins \"{}\"", quoted_start(text))
        }
        Value::Deferred { .. } => "A row".to_owned(),
        Value::Dense(_) => "A vector".to_owned(),
    };
    format!("{row} was being inserted into index \"{index}\".")
}

/// Different texts and their embeddings.
struct EmbeddedTexts<'a> {
    /// The position of each text in the other fields.
    places: HashMap<&'a str, usize>,
    /// The embeddings, one after the other.
    vectors: Vec<f32>,
    /// Whether the model truncated the text.
    cut: Vec<bool>,
}

/// Returns the beginning of a text as an error quotes it, in one line.
fn quoted_start(text: &str) -> String {
    let mut start: String =
        text.chars().take(MAX_QUOTED_CHARS).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(MAX_QUOTED_CHARS).is_some() {
        start.push_str("...");
    }
    start
}
