//! The limits on the parts of a value.

/// The most dimensions of a vector. What makes, stores or reads vectors keeps to this limit.
pub const MAX_DIM: usize = 16_000;

/// The longest name of a model, in bytes of UTF-8: an index's meta page has room for this many.
pub const MAX_MODEL_NAME_BYTES: usize = 127;
