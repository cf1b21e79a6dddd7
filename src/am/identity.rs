//! Which model an index is of, without the model itself; and that of temporary indexes, remembered.
//!
//! At every commit the server empties a temporary table made with ON COMMIT DELETE ROWS, and has its indexes built anew, in place. That
//! must not need the model: a COMMIT would fail, or load it, for nothing. The index cannot be asked any more, since its file is empty; but
//! this very session built it, so it knows.

use crate::pg::Rel;
use std::cell::RefCell;
use std::collections::HashMap;

/// What the meta page says about the model.
#[derive(Clone)]
pub struct Identity {
    pub model: String,
    pub fingerprint: [u8; 32],
    pub dim: usize,
}

/// Temporary indexes remembered; a session that makes more forgets them all and needs the model again.
const MOST: usize = 10_000;

thread_local! {
    /// By index and file: an index that gets a new file, as by TRUNCATE and REINDEX, is built from scratch.
    static TEMPORARY: RefCell<HashMap<(u32, u32), Identity>> = RefCell::new(HashMap::new());
}

/// Remembers what a temporary index was built with.
pub fn remember(index: Rel, identity: Identity) {
    if index.is_temporary() {
        TEMPORARY.with_borrow_mut(|known| {
            if known.len() >= MOST {
                known.clear();
            }
            known.insert((index.oid().to_u32(), index.file_number()), identity);
        });
    }
}

/// The model of an index that was emptied in place together with its table.
pub fn of_emptied(table: Rel, index: Rel) -> Option<Identity> {
    if !index.is_temporary() || table.blocks() != 0 {
        return None;
    }
    TEMPORARY.with_borrow(|known| known.get(&(index.oid().to_u32(), index.file_number())).cloned())
}
