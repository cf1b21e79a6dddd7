//! Embeds the rows of COPY in batches: with the row that is inserted, those that follow it. Each of them is
//! still inserted in its turn, so nothing waits that a search or a rolled back subtransaction would have to
//! know of.

use super::errors;
use super::index::Index;
use crate::guc;
use crate::pg::Rel;
use crate::pg::copied_rows;
use crate::value::Embedding;
use leann_page::HeapPointer;
use leann_value::{Role, Value};
use std::collections::HashMap;

/// Maximum rows of a batch for each thread.
const ROWS_PER_THREAD: usize = 32;
/// Bytes of texts that complete a batch early.
const FULL_BATCH_BYTES: usize = 1 << 20;

/// Rows that were embedded and not inserted yet.
#[derive(Default)]
pub struct Ahead {
    rows: HashMap<HeapPointer, Row>,
    /// The highest place that was looked at: of rows up to there, those that are not in `rows` are embedded
    /// one by one.
    seen: Option<HeapPointer>,
}

/// A row that was embedded.
pub struct Row {
    value: Embedding,
    pub embedding: Vec<f32>,
    /// Whether the model truncated its text.
    pub cut: bool,
}

impl Ahead {
    /// Returns the row at `pointer`, with the rows that follow embedded if it was not seen before. None if
    /// none follows, or if the model cannot embed them together: then each is embedded in its turn, and the
    /// error names the right one.
    pub fn take(
        &mut self,
        index: &Index,
        table: Rel,
        pointer: HeapPointer,
        value: &Embedding,
    ) -> Option<Row> {
        if self.seen < Some(pointer)
            && let Some(role) = role_of(value)
        {
            self.embed_from(index, table, pointer, value, role);
        }
        self.rows.remove(&pointer).filter(|row| row.value == *value)
    }

    /// Embeds a row and those that follow it.
    fn embed_from(&mut self, index: &Index, table: Rel, pointer: HeapPointer, value: &Embedding, role: Role) {
        self.rows.clear();
        let most = ROWS_PER_THREAD * guc::threads();
        let mut rows = vec![(pointer, value.clone())];
        let (mut bytes, mut seen) = (0, pointer);
        copied_rows::following(table, index.rel, pointer, |pointer, value: Embedding| {
            seen = pointer;
            bytes += value.encoded_len();
            if role_of(&value) == Some(role) {
                rows.push((pointer, value));
            }
            rows.len() < most && bytes < FULL_BATCH_BYTES
        });
        self.seen = Some(seen);
        if rows.len() > 1 {
            self.embed(index, role, rows);
        }
    }

    /// Embeds rows, each different text once.
    fn embed(&mut self, index: &Index, role: Role, rows: Vec<(HeapPointer, Embedding)>) {
        let model = index.model();
        if rows.iter().any(|(_, value)| errors::foreign_value(index.rel, &model, value).is_some()) {
            return;
        }
        let (mut texts, mut places) = (Vec::new(), HashMap::new());
        for (_, value) in &rows {
            if let Value::Deferred { text, .. } = &value.0 {
                places.entry(text.as_str()).or_insert_with(|| {
                    texts.push(text.as_str());
                    texts.len() - 1
                });
            }
        }
        let Ok(embedded) = model.compute_texts(role, &texts) else { return };
        let vectors: Vec<&[f32]> = embedded.vectors.chunks_exact(model.dim()).collect();
        let rows = rows.iter().filter_map(|(pointer, value)| {
            let Value::Deferred { text, .. } = &value.0 else { return None };
            let place = places[text.as_str()];
            let (embedding, cut) = (vectors[place].to_vec(), embedded.truncated[place]);
            Some((*pointer, Row { value: value.clone(), embedding, cut }))
        });
        self.rows = rows.collect();
    }
}

/// Returns the role in which a value's text is embedded; None if the value is a vector.
fn role_of(value: &Embedding) -> Option<Role> {
    match &value.0 {
        Value::Deferred { role, .. } => Some(*role),
        Value::Dense(_) => None,
    }
}
