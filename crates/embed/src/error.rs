//! The errors of this crate, as one enum that a caller can match.

use std::path::PathBuf;

/// Every failure of this crate.
///
/// The variants tell apart what an administrator has to put right (the library, the model's folder), what the
/// caller asked for (`Stopped`) and what the model did (`Inference`, `NotFinite`). `path` and `folder` are
/// paths on this machine, `model` is the name of the model's folder, and `reason` is a clause that completes
/// the message.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the fields mean the same in all variants and are described above")]
pub enum EmbedError {
    /// There is no file at the path given for the ONNX Runtime library.
    #[error("there is no ONNX Runtime library at \"{}\"", .path.display())]
    LibraryMissing { path: PathBuf },

    /// The file exists, but it is not an ONNX Runtime library that this crate can use.
    #[error("the ONNX Runtime library \"{}\" cannot be used: {reason}", .path.display())]
    LibraryUnusable { path: PathBuf, reason: String },

    /// The library was built without the execution provider that was asked for, or this crate does not know
    /// it.
    #[error("the ONNX Runtime library has no execution provider \"{provider}\": {reason}")]
    ProviderMissing { provider: String, reason: String },

    /// The model's folder, or a file without which it is not a model, does not exist.
    #[error("there is no model at \"{}\": {reason}", .path.display())]
    ModelMissing { path: PathBuf, reason: String },

    /// A file of the model cannot be read, or its content is not what it should be.
    #[error("model file \"{}\": {reason}", .path.display())]
    ModelFile { path: PathBuf, reason: String },

    /// A copy of a model's files could not be written. `full` tells a full disk or quota from other reasons.
    #[error("could not keep a copy of the model's files in \"{}\": {reason}", .folder.display())]
    Store { folder: PathBuf, reason: String, full: bool },

    /// The model is well formed, but of a kind that this crate does not serve.
    #[error("model \"{model}\" is not supported: {reason}")]
    Unsupported { model: String, reason: String },

    /// The tokenizer refused a text.
    #[error("model \"{model}\" could not split a text into tokens: {reason}")]
    Tokenizer { model: String, reason: String },

    /// ONNX Runtime failed while it ran the model.
    #[error("model \"{model}\" failed: {reason}")]
    Inference { model: String, reason: String },

    /// The model returned a vector that has no direction: all zeros, or with infinite or undefined numbers in
    /// it.
    #[error("model \"{model}\" gave a vector that is zero or not finite")]
    NotFinite { model: String },

    /// No worker thread could be started.
    #[error("could not start a thread for the model: {reason}")]
    Threads { reason: String },

    /// `Job::should_stop` returned true. Every worker thread had ended before this was returned.
    #[error("embedding was stopped")]
    Stopped,
}
