//! The limits on dimensions and on the sizes of sketches.

/// The most dimensions of an embedding.
pub const MAX_DIM: usize = 16_384;

/// The smallest trained sketch, in bytes.
pub const MIN_SKETCH_BYTES: usize = 4;

/// The largest trained sketch, in bytes.
pub const MAX_SKETCH_BYTES: usize = 1024;
