//! What a user is told when a model cannot be loaded or run: each error of crates/embed with its SQLSTATE and
//! a hint.

use std::path::Path;

use leann_embed::EmbedError;
use pgrx::pg_sys::errcodes::PgSqlErrorCode;
use pgrx::prelude::*;

use crate::error::Error;
use crate::guc;
use crate::pg::allocator;

/// Returns the name of a model's folder, by which users know the model.
fn folder_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// Returns the path of a model's file inside the folder of models.
fn file_name(path: &Path) -> String {
    let models = guc::model_dir();
    let inside =
        path.strip_prefix(&models).ok().or_else(|| path.strip_prefix(models.canonicalize().ok()?).ok());
    inside.map_or_else(|| folder_name(path), |inside| inside.display().to_string())
}

/// Returns a detail that shows where the server keeps its files, for superusers only.
fn for_superusers(detail: String) -> Option<String> {
    // SAFETY: a plain call; errors are made while a statement runs, so the catalogs can be read.
    unsafe { pg_sys::superuser() }.then_some(detail)
}

/// Returns a reason that another library gave, such as ONNX Runtime, whose messages often contain paths.
/// Superusers get it unchanged. Other users get it with paths inside the folder of models shortened to their
/// part inside it, and not at all if other paths remain.
fn without_paths(reason: String) -> Option<String> {
    for_superusers(reason.clone()).or_else(|| {
        let models = guc::model_dir();
        let folders = [Some(models.clone()), models.canonicalize().ok()];
        let reason = folders.iter().flatten().fold(reason, |reason, folder| {
            reason.replace(&format!("{}/", folder.display().to_string().trim_end_matches('/')), "")
        });
        (!names_a_path(&reason)).then_some(reason)
    })
}

/// Returns a message and, for users who may see it, the reason.
fn with_reason(message: String, reason: String) -> String {
    match without_paths(reason) {
        Some(reason) => format!("{message}: {reason}"),
        None => message,
    }
}

/// Returns whether a text seems to contain an absolute path.
fn names_a_path(text: &str) -> bool {
    let starts = |at: usize| {
        let before = text[..at].chars().next_back();
        let after = text[at + 1..].chars().next();
        before.is_none_or(|c| !c.is_alphanumeric() && !"_-.)".contains(c))
            && after.is_some_and(|c| c.is_alphanumeric() || "._~".contains(c))
    };
    text.match_indices('/').any(|(at, _)| starts(at))
}

/// Returns whether a reason says that memory ran out, in the words of the C library, the C++ library or ONNX
/// Runtime.
fn says_out_of_memory(reason: &str) -> bool {
    [
        "Cannot allocate memory",
        "bad_alloc",
        "Failed to allocate memory",
        "failed to map segment",
        "os error 12",
    ]
    .iter()
    .any(|words| reason.contains(words))
}

impl From<EmbedError> for Error {
    /// Converts an error of the crate. Only superusers learn where the server keeps its files, as with the
    /// settings that the hints name.
    fn from(error: EmbedError) -> Error {
        use PgSqlErrorCode::*;
        const LIBRARY_HINT: &str = "Install ONNX Runtime (\"make install\" does), or set \
                                    leann.onnxruntime_library to the path of libonnxruntime.so.";
        const MODEL_HINT: &str = "Put the model's folder into leann.model_dir under that name. The view \
                                  leann.models lists what the server sees there.";
        const FILE_HINT: &str = "The view leann.models lists the models that the server sees, and what is \
                                 wrong with them.";
        if says_out_of_memory(&error.to_string()) {
            return Error::new(ERRCODE_OUT_OF_MEMORY, "out of memory")
                .detail("The system refused memory for a model.")
                .hint("Lower leann.threads, or give the server's processes more memory.");
        }
        match error {
            EmbedError::LibraryMissing { path } => {
                Error::new(ERRCODE_UNDEFINED_FILE, "the ONNX Runtime library is not installed")
                    .maybe_detail(for_superusers(format!("There is no file \"{}\".", path.display())))
                    .hint(LIBRARY_HINT)
            }
            // The loader's message does not tell that memory ran out.
            EmbedError::LibraryUnusable { .. } if allocator::is_scarce() => {
                allocator::out_of_memory().detail("The system refused memory for the ONNX Runtime library.")
            }
            EmbedError::LibraryUnusable { reason, .. } => {
                Error::new(ERRCODE_SYSTEM_ERROR, "the ONNX Runtime library cannot be used")
                    .maybe_detail(for_superusers(reason))
                    .hint(LIBRARY_HINT)
            }
            EmbedError::ProviderMissing { provider, reason } => Error::new(
                ERRCODE_FEATURE_NOT_SUPPORTED,
                format!("the ONNX Runtime library has no execution provider \"{provider}\""),
            )
            .maybe_detail(without_paths(reason))
            .hint(
                "Set leann.execution_provider to \"cpu\", or leann.onnxruntime_library to a build that has \
                 it.",
            ),
            EmbedError::ModelMissing { path, reason } => {
                let name = folder_name(&path);
                Error::new(ERRCODE_UNDEFINED_OBJECT, format!("model \"{name}\" does not exist"))
                    .maybe_detail(without_paths(reason))
                    .hint(MODEL_HINT)
            }
            EmbedError::ModelFile { path, reason } => {
                let file = file_name(&path);
                Error::new(ERRCODE_CONFIG_FILE_ERROR, format!("model file \"{file}\" cannot be used"))
                    .maybe_detail(without_paths(reason))
                    .hint(FILE_HINT)
            }
            EmbedError::Unsupported { model, reason } => {
                let message = format!("model \"{model}\" is not supported");
                Error::new(ERRCODE_FEATURE_NOT_SUPPORTED, with_reason(message, reason)).hint(FILE_HINT)
            }
            error @ EmbedError::Threads { .. } => {
                Error::new(ERRCODE_INSUFFICIENT_RESOURCES, error.to_string()).hint("Lower leann.threads.")
            }
            EmbedError::Store { folder, reason, full } => {
                let code = if full { ERRCODE_DISK_FULL } else { ERRCODE_IO_ERROR };
                Error::new(code, "the server cannot keep a copy of the model's files")
                    .detail(reason)
                    .maybe_hint(for_superusers(format!(
                        "Models are mapped from a copy in \"{}\", which needs as much space as their \
                         weights.",
                        folder.display()
                    )))
            }
            EmbedError::Stopped => Error::new(ERRCODE_QUERY_CANCELED, "embedding was stopped"),
            EmbedError::Tokenizer { model, reason } => {
                let message = format!("model \"{model}\" could not split a text into tokens");
                Error::new(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION, with_reason(message, reason))
            }
            EmbedError::Inference { model, reason } => {
                let message = format!("model \"{model}\" failed");
                Error::new(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION, with_reason(message, reason))
            }
            error => Error::new(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION, error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::names_a_path;

    #[test]
    fn absolute_paths_are_recognized() {
        for with in
            ["/srv/models/x", "Load model from /srv/x.onnx failed", "open(\"/a\")", "at:/a/b", "'/.hidden'"]
        {
            assert!(names_a_path(with), "{with}");
        }
        for without in
            ["onnx/model.onnx is short", "and/or", "1 / 2", "a/", "", "./x/y", "a mean/max pooling"]
        {
            assert!(!names_a_path(without), "{without}");
        }
    }
}
