//! Why a step of a build has no result.

use leann_graph::Unfinished;
use leann_sketch::SketchError;

/// Why a step of a build has no result.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum LayoutError {
    /// The caller's `stop` returned true.
    #[error("stopped by the caller")]
    Stopped,
    /// The system refused memory.
    #[error("out of memory")]
    NoMemory,
    /// Training failed.
    #[error(transparent)]
    Sketch(SketchError),
}

impl From<SketchError> for LayoutError {
    fn from(error: SketchError) -> LayoutError {
        match error {
            SketchError::Stopped => LayoutError::Stopped,
            SketchError::NoMemory => LayoutError::NoMemory,
            error => LayoutError::Sketch(error),
        }
    }
}

impl From<Unfinished> for LayoutError {
    fn from(reason: Unfinished) -> LayoutError {
        match reason {
            Unfinished::Stopped => LayoutError::Stopped,
            Unfinished::NoMemory => LayoutError::NoMemory,
        }
    }
}
