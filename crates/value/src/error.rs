//! Why something is not a value of type `embedding`. The texts are parts of messages that clients read.

use crate::{MAX_DIM, MAX_MODEL_NAME_BYTES};

/// Why a literal, a list of numbers or a decoded value is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// A vector has no numbers.
    #[error("an embedding must have at least one dimension")]
    NoDimensions,
    /// A vector has this many numbers, which is more than [`MAX_DIM`].
    #[error("an embedding cannot have more than {MAX_DIM} dimensions, not {0}")]
    TooManyDimensions(usize),
    /// A vector contains NaN.
    #[error("an embedding must not contain NaN")]
    NotANumber,
    /// A vector contains an infinite number.
    #[error("an embedding must not contain infinity")]
    Infinite,
    /// A vector has length zero, so that it cannot be scaled to unit length.
    #[error("an embedding must not be all zeros, which point nowhere")]
    AllZeros,
    /// A number of a literal, as written, is too large for an f32.
    #[error("\"{0}\" is out of range for type real")]
    OutOfRange(String),
    /// A text contains a NUL character.
    #[error("the text of an embedding must not contain a null character")]
    NullCharacter,
    /// The name of the model cannot be one.
    #[error("a model name {0}")]
    ModelName(#[from] NameError),
}

/// Why a text cannot be the name of a model. The message is a predicate: "must not be empty".
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The name has no characters.
    #[error("must not be empty")]
    Empty,
    /// The name has more than [`MAX_MODEL_NAME_BYTES`].
    #[error("must not be longer than {MAX_MODEL_NAME_BYTES} bytes")]
    TooLong,
    /// The name begins with a dot: the folder would be hidden, or one of `.` and `..`.
    #[error("must not begin with a dot")]
    LeadingDot,
    /// The name contains `/` or `\`: it would be a path.
    #[error("must not contain a slash")]
    Slash,
    /// The name contains a control character.
    #[error("must not contain control characters")]
    ControlCharacter,
}

/// Why bytes are not those of a value. The message has "it" for the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// There are fewer than eight bytes, or the reserved ones are not 0.
    #[error("its prefix is not one of an embedding")]
    Prefix,
    /// The kind is unknown, the role does not suit it, or a vector has a model's name.
    #[error("it is of no known kind")]
    Kind,
    /// The numbers of a vector do not fill whole groups of four bytes.
    #[error("its length is not one of a vector")]
    VectorLength,
    /// A vector has no numbers, or more than [`crate::MAX_DIM`].
    #[error("its number of dimensions is impossible")]
    Dimensions,
    /// There are fewer bytes than the model's name has.
    #[error("its model's name is cut off")]
    ModelNameLength,
    /// The model's name is not UTF-8.
    #[error("its model's name is not UTF-8")]
    ModelNameEncoding,
    /// The text is not UTF-8.
    #[error("its text is not UTF-8")]
    TextEncoding,
}
