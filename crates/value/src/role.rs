//! What a text is embedded for.

/// The role of a text: many models expect one prompt before a query and another before the text of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// The text is searched for.
    Query,
    /// The text is the content of a row.
    Passage,
}
