//! Embeddings of rows on their way into an index: a build's in batches, past the caches, an insert's one at a time. An error says which
//! row it was; rows of which the model reads only the beginning are counted.

use super::errors;
use crate::error::Error;
use crate::model::Loaded;
use crate::pg::Rel;
use crate::pg::rights::Asker;
use crate::sql::embedding::Embedding;
use leann_page::HeapPointer;
use leann_value::{Role, Value};
use std::collections::HashMap;

/// Characters of a text that an error quotes.
const QUOTED: usize = 60;

/// Rows that are embedded together.
pub struct Rows<'a> {
    pub index: Rel,
    pub model: &'a Loaded,
    pub pointers: &'a [HeapPointer],
    pub values: &'a [Embedding],
}

impl Rows<'_> {
    /// Calls `each` with every row's embedding, in their order; a text that occurs several times is embedded once. Gives the number of rows
    /// whose text the model cut.
    pub fn embed(&self, mut each: impl FnMut(&[f32])) -> usize {
        self.values.iter().enumerate().for_each(|(row, value)| self.check(row, value));
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

    /// Refuses what is not of this index's model.
    fn check(&self, row: usize, value: &Embedding) {
        let (index, model) = (self.index.name(), self.model);
        let fault = match &value.0 {
            Value::Dense(vector) if vector.len() != model.dim() => {
                errors::wrong_dimension(&index, vector.len(), model.dim())
            }
            Value::Deferred { model: Some(other), .. } if other != model.name() => {
                errors::model_mismatch(&index, model.name(), other)
            }
            _ => return,
        };
        self.name(fault, row).raise()
    }

    fn embed_role(&self, wanted: Role) -> Texts<'_> {
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
            return Texts { places, vectors: Vec::new(), cut: Vec::new() };
        }
        match self.model.compute_texts(wanted, &texts) {
            Ok(embedded) => Texts { places, vectors: embedded.vectors, cut: embedded.cut },
            Err(error) => self.name_culprit(error, wanted, &texts).raise(),
        }
    }

    /// If it is one text that the model cannot embed: which, found by halving.
    fn name_culprit(&self, mut error: Error, role: Role, mut texts: &[&str]) -> Error {
        if !error.is_of_a_text() {
            return error;
        }
        while texts.len() > 1 {
            let (first, second) = texts.split_at(texts.len() / 2);
            texts = match self.fails(role, first) {
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
            Some(row) => self.name(error, row),
            None => error,
        }
    }

    fn fails(&self, role: Role, texts: &[&str]) -> Option<Error> {
        self.model.compute_texts(role, texts).err().filter(Error::is_of_a_text)
    }

    /// Adds to an error which row it is about.
    fn name(&self, error: Error, row: usize) -> Error {
        let HeapPointer { block, offset } = self.pointers[row];
        let text = match &self.values[row].0 {
            Value::Deferred { text, .. } if may_quote(self.index) => {
                format!(", its text begins \"{}\"", beginning(text))
            }
            _ => String::new(),
        };
        error.also(format!("It is the row at ctid ({block},{offset}){text}."))
    }
}

/// Whether errors may quote texts of the index's table: to a user who may read all of it. Others can make the server embed
/// texts that they may not read, by an UPDATE of another column, or by a REINDEX with the privilege MAINTAIN.
pub fn may_quote(index: Rel) -> bool {
    Asker::now().reads_whole(index.table_oid())
}

/// For errors of an insert.
pub fn say_inserting(index: &str, value: &Embedding, quote: bool) -> String {
    let row = match &value.0 {
        Value::Deferred { text, .. } if quote => format!("a row whose text begins \"{}\"", beginning(text)),
        Value::Deferred { .. } => "a row".to_owned(),
        Value::Dense(_) => "a vector".to_owned(),
    };
    format!("It was being inserted into index \"{index}\": {row}.")
}

/// Different texts, their vectors one after the other, and which of them were cut.
struct Texts<'a> {
    places: HashMap<&'a str, usize>,
    vectors: Vec<f32>,
    cut: Vec<bool>,
}

/// As much of a text as an error quotes, in one line.
fn beginning(text: &str) -> String {
    let mut start: String = text.chars().take(QUOTED).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(QUOTED).is_some() {
        start.push_str("...");
    }
    start
}
