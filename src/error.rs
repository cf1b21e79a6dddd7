//! The one error type of the extension: what a client is told, with its SQLSTATE and a hint at what to do about it.
//!
//! Everything below the SQL functions returns `Result`; only the functions themselves raise. So no lock, borrow or
//! buffer of ours is ever held where Postgres unwinds.

use std::path::Path;

use leann_embed::EmbedError;
use pgrx::pg_sys::errcodes::PgSqlErrorCode;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::guc;
use crate::pg::encoding;
use crate::pg::memory;

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A message, its SQLSTATE, and optionally a detail and a hint.
#[derive(Debug)]
pub struct Error(Box<Report>);

#[derive(Debug)]
struct Report {
    code: PgSqlErrorCode,
    message: String,
    detail: Option<String>,
    hint: Option<String>,
}

impl Error {
    pub fn new(code: PgSqlErrorCode, message: impl Into<String>) -> Error {
        Error(Box::new(Report { code, message: message.into(), detail: None, hint: None }))
    }

    /// A value or setting that the caller chose and that cannot be served (22023).
    pub fn invalid(message: impl Into<String>) -> Error {
        Error::new(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, message)
    }

    pub fn detail(self, detail: impl Into<String>) -> Error {
        self.maybe_detail(Some(detail.into()))
    }

    fn maybe_detail(mut self, detail: Option<String>) -> Error {
        self.0.detail = detail;
        self
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Error {
        self.0.hint = Some(hint.into());
        self
    }

    /// Adds a sentence to the detail.
    pub fn also(mut self, sentence: impl AsRef<str>) -> Error {
        let sentence = sentence.as_ref();
        self.0.detail = Some(match self.0.detail.take() {
            Some(detail) => format!("{detail} {sentence}"),
            None => sentence.to_owned(),
        });
        self
    }

    /// Whether a model failed at what it was given: perhaps at one text of many.
    pub fn is_of_a_text(&self) -> bool {
        self.0.code == PgSqlErrorCode::ERRCODE_EXTERNAL_ROUTINE_EXCEPTION
    }

    fn maybe_hint(mut self, hint: Option<String>) -> Error {
        self.0.hint = hint;
        self
    }

    /// The message and the detail in one line.
    pub fn summary(&self) -> String {
        match &self.0.detail {
            Some(detail) => format!("{}: {detail}", self.0.message),
            None => self.0.message.clone(),
        }
    }

    /// Raises the error in Postgres, which ends the statement.
    #[track_caller]
    pub fn raise(self) -> ! {
        let Report { code, message, detail, hint } = *self.0;
        let mut report = ErrorReport::new(code, encoding::message(message), "leann");
        if let Some(detail) = detail {
            report = report.set_detail(encoding::message(detail));
        }
        if let Some(hint) = hint {
            report = report.set_hint(encoding::message(hint));
        }
        report.report(PgLogLevel::ERROR);
        unreachable!("an ERROR does not return")
    }
}

/// The step from `Result` to the way Postgres reports errors, for the outermost function only.
pub trait OrRaise<T> {
    fn or_raise(self) -> T;
}

impl<T> OrRaise<T> for Result<T> {
    #[track_caller]
    fn or_raise(self) -> T {
        match self {
            Ok(value) => value,
            Err(error) => error.raise(),
        }
    }
}

impl From<pgrx::spi::SpiError> for Error {
    fn from(error: pgrx::spi::SpiError) -> Error {
        Error::new(PgSqlErrorCode::ERRCODE_INTERNAL_ERROR, error.to_string())
    }
}

/// The name by which a user knows a model is that of its folder.
fn folder_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// A model's file, by its path inside the folder of models.
fn file_name(path: &Path) -> String {
    let models = guc::model_dir();
    let inside =
        path.strip_prefix(&models).ok().or_else(|| path.strip_prefix(models.canonicalize().ok()?).ok());
    inside.map_or_else(|| folder_name(path), |inside| inside.display().to_string())
}

/// A detail that gives away where the server keeps its files.
fn for_superusers(detail: String) -> Option<String> {
    // SAFETY: a plain call; errors are made while a statement runs, so the catalogs can be asked.
    unsafe { pg_sys::superuser() }.then_some(detail)
}

/// What somebody else said is wrong, as ONNX Runtime does, which likes to name files. For superusers as it is; for others
/// with paths inside the folder of models only, and if there are more, not at all.
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

/// A message and, for whom it is meant, the reason.
fn with(message: String, reason: String) -> String {
    match without_paths(reason) {
        Some(reason) => format!("{message}: {reason}"),
        None => message,
    }
}

/// Whether a text seems to have an absolute path in it.
fn names_a_path(text: &str) -> bool {
    let starts = |at: usize| {
        let before = text[..at].chars().next_back();
        let after = text[at + 1..].chars().next();
        before.is_none_or(|c| !c.is_alphanumeric() && !"_-.)".contains(c))
            && after.is_some_and(|c| c.is_alphanumeric() || "._~".contains(c))
    };
    text.match_indices('/').any(|(at, _)| starts(at))
}

/// Whether a reason is that there is no memory: the words are the C library's, the C++ library's and ONNX Runtime's.
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
    /// Where the server keeps its files is for superusers, as it is in the settings that the hints name.
    fn from(error: EmbedError) -> Error {
        use PgSqlErrorCode::*;
        const LIBRARY_HINT: &str = "Install ONNX Runtime (\"make install\" does), or set leann.onnxruntime_library to \
                                    the path of libonnxruntime.so.";
        const MODEL_HINT: &str = "Put the model's folder into leann.model_dir under that name. The view leann.models \
                                  lists what the server sees there.";
        if says_out_of_memory(&error.to_string()) {
            return Error::new(ERRCODE_OUT_OF_MEMORY, "out of memory")
                .detail("The system refused memory for a model.")
                .hint("Lower leann.threads, or let the server's processes have more memory.");
        }
        const FILE_HINT: &str = "The view leann.models lists the models that the server sees, and what is wrong with \
                                 them.";
        match error {
            EmbedError::LibraryMissing { path } => {
                Error::new(ERRCODE_UNDEFINED_FILE, "the ONNX Runtime library is not installed")
                    .maybe_detail(for_superusers(format!("There is no file \"{}\".", path.display())))
                    .hint(LIBRARY_HINT)
            }
            // The loader does not say so.
            EmbedError::LibraryUnusable { .. } if memory::is_scarce() => {
                memory::out_of_memory().detail("The system refused memory for the ONNX Runtime library.")
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
            .hint("Set leann.execution_provider to \"cpu\", or leann.onnxruntime_library to a build that has it."),
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
                Error::new(ERRCODE_FEATURE_NOT_SUPPORTED, with(message, reason)).hint(FILE_HINT)
            }
            error @ EmbedError::Threads { .. } => {
                Error::new(ERRCODE_INSUFFICIENT_RESOURCES, error.to_string()).hint("Lower leann.threads.")
            }
            EmbedError::Store { folder, reason, full } => {
                let code = if full { ERRCODE_DISK_FULL } else { ERRCODE_IO_ERROR };
                Error::new(code, "the server cannot keep a copy of the model's files")
                    .detail(reason)
                    .maybe_hint(for_superusers(format!(
                        "Models are mapped from a copy in \"{}\", which needs as much room as their weights.",
                        folder.display()
                    )))
            }
            EmbedError::Stopped => Error::new(ERRCODE_QUERY_CANCELED, "embedding was stopped"),
            EmbedError::Tokenizer { model, reason } => {
                let message = format!("model \"{model}\" could not split a text into tokens");
                Error::new(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION, with(message, reason))
            }
            EmbedError::Inference { model, reason } => {
                let message = format!("model \"{model}\" failed");
                Error::new(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION, with(message, reason))
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
