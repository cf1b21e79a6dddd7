//! The errors of training and reading a sketcher.

/// Why a sketcher could not be trained or read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SketchError {
    /// The dimension is zero or above [`crate::MAX_DIM`], or the sample is not a whole number of rows.
    #[error("the sample has {len} values, which is no whole number of rows of {dim} dimensions")]
    Shape {
        /// Values in the sample.
        len: usize,
        /// Dimensions of a row.
        dim: usize,
    },
    /// `sketch_bytes` lies outside [`crate::MIN_SKETCH_BYTES`]`..=`[`crate::MAX_SKETCH_BYTES`].
    #[error("a sketch of {0} bytes is not supported")]
    SketchBytes(usize),
    /// The sample holds a NaN, an infinity, or a value far above 1.
    #[error("the sample holds a value that is not finite")]
    NotFinite,
    /// The caller's `stop` returned true.
    #[error("stopped by the caller")]
    Stopped,
    /// The system refused memory for the training.
    #[error("out of memory")]
    NoMemory,
    /// Bytes given to `from_bytes` are not the parameters of a sketcher. The text says what is wrong with
    /// them.
    #[error("damaged sketch parameters: {0}")]
    Damaged(&'static str),
}
