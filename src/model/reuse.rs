//! Where embeddings are looked up and kept, which depends on whose texts they are.

/// What `Loaded::embed` does beside running the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reuse {
    /// They are looked up and kept in the session's cache and in the server's.
    Everywhere,
    /// They are looked up in both, and kept in the session's only: rows that are loaded into a table must not wash out
    /// what others search for.
    InSession,
    /// They are neither looked up nor kept, nor is one text's embedding used for another that equals it: that would show,
    /// in time and in counts, what rows say which the user may not see.
    Nowhere,
}
