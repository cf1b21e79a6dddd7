//! Identifies the model of an index without the model itself, and remembers it for temporary indexes.
//!
//! At every commit the server empties temporary tables that are declared ON COMMIT DELETE ROWS, and rebuilds
//! their indexes in place. That must not need the model: a COMMIT would load it for nothing, or fail. The
//! index cannot tell any more, since its file is empty, but the same session built it, so the session
//! remembers.

use crate::pg::Rel;
use crate::session::{self, State};
use std::collections::HashMap;

/// The model of an index as its meta page names it.
#[derive(Clone)]
pub struct ModelIdentity {
    pub model: String,
    pub fingerprint: [u8; 32],
    pub dim: usize,
}

/// Maximum temporary indexes that a session remembers. Beyond it the session forgets them all and needs the
/// model again.
const MAX_REMEMBERED: usize = 10_000;

/// The models of this session's temporary indexes, by index and file. An index that gets a new file, as by
/// TRUNCATE and REINDEX, is built from scratch.
#[derive(Default)]
struct TemporaryIndexes(HashMap<(u32, u32), ModelIdentity>);

impl State for TemporaryIndexes {}

/// Remembers the model of a temporary index.
pub fn remember(index: Rel, identity: ModelIdentity) {
    if index.is_temporary() {
        session::with(|TemporaryIndexes(known)| {
            if known.len() >= MAX_REMEMBERED {
                known.clear();
            }
            known.insert((index.oid().to_u32(), index.file_number()), identity);
        });
    }
}

/// Returns the model of a temporary index that was emptied in place together with its table.
pub fn remembered(table: Rel, index: Rel) -> Option<ModelIdentity> {
    if !index.is_temporary() || table.blocks() != 0 {
        return None;
    }
    session::with(|TemporaryIndexes(known)| known.get(&(index.oid().to_u32(), index.file_number())).cloned())
}
