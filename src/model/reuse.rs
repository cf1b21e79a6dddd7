//! Where embeddings are looked up and kept, which depends on whose texts they are.

/// How `Loaded::embed` uses the caches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reuse {
    /// Embeddings are looked up and kept in the session's cache and in the server's.
    Everywhere,
    /// Embeddings are looked up in both caches, and kept in the session's only: rows that are loaded into a
    /// table must not evict what other sessions search for.
    InSession,
    /// Embeddings are neither looked up nor kept, and equal texts are embedded separately. Otherwise times
    /// and counts would show the contents of rows that the user may not see.
    Nowhere,
}
