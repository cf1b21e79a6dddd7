//! The error type of the extension: what a client is told, with its SQLSTATE and a hint at what to do about
//! it.
//!
//! Code that can continue after a fault returns `Result`. Code that cannot, as with a damaged page under the
//! access method, raises at once, even while it holds pages and locks: a raised error reaches Rust as a
//! panic, and the guards that it unwinds through release nothing, because the abort of the transaction does
//! (see `pg`).

use pgrx::pg_sys::errcodes::PgSqlErrorCode;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

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

    /// Returns the ERROR for a value or setting that the caller chose and that is not allowed (22023).
    pub fn invalid(message: impl Into<String>) -> Error {
        Error::new(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, message)
    }

    pub fn detail(self, detail: impl Into<String>) -> Error {
        self.maybe_detail(Some(detail.into()))
    }

    pub fn maybe_detail(mut self, detail: Option<String>) -> Error {
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

    /// Returns whether a model failed on its input: perhaps on one text of many.
    pub fn is_of_a_text(&self) -> bool {
        self.0.code == PgSqlErrorCode::ERRCODE_EXTERNAL_ROUTINE_EXCEPTION
    }

    pub fn maybe_hint(mut self, hint: Option<String>) -> Error {
        self.0.hint = hint;
        self
    }

    /// Returns the message and the detail in one line.
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
        let mut report = ErrorReport::new(code, in_server_encoding(message), "leann");
        if let Some(detail) = detail {
            report = report.set_detail(in_server_encoding(detail));
        }
        if let Some(hint) = hint {
            report = report.set_hint(in_server_encoding(hint));
        }
        report.report(PgLogLevel::ERROR);
        unreachable!("an ERROR does not return")
    }
}

/// Raises an error that only a bug of the extension explains, or a call that the server does not make.
#[track_caller]
pub fn raise_internal(message: impl Into<String>) -> ! {
    Error::new(PgSqlErrorCode::ERRCODE_INTERNAL_ERROR, message).raise()
}

/// Sends the client a NOTICE with a hint.
pub fn notice(message: impl Into<String>, hint: impl Into<String>) {
    let code = PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION;
    ErrorReport::new(code, in_server_encoding(message.into()), "leann")
        .set_hint(in_server_encoding(hint.into()))
        .report(PgLogLevel::NOTICE);
}

/// Writes a message and a hint to the server's log, not to the client.
pub fn log(message: impl Into<String>, hint: impl Into<String>) {
    let code = PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION;
    ErrorReport::new(code, in_server_encoding(message.into()), "leann")
        .set_hint(in_server_encoding(hint.into()))
        .report(PgLogLevel::LOG);
}

/// Writes a message and its detail to the server's log only.
pub fn log_detail(message: impl Into<String>, detail: impl Into<String>) {
    let code = PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION;
    ErrorReport::new(code, in_server_encoding(message.into()), "leann")
        .set_detail(in_server_encoding(detail.into()))
        .report(PgLogLevel::LOG_SERVER_ONLY);
}

/// Returns the text of an error or notice as it can be sent. pgrx passes UTF-8 on as if it were in the
/// database's encoding. So if that is another one, characters beyond ASCII are written as the escapes of a
/// `U&'...'` string: readable, and the same in every encoding.
fn in_server_encoding(text: String) -> String {
    if text.is_ascii() || database_is_utf8() {
        return text;
    }
    text.chars().fold(String::with_capacity(text.len()), |mut escaped, character| {
        match u32::from(character) {
            ..0x80 => escaped.push(character),
            code @ ..0x10000 => escaped.push_str(&format!("\\{code:04X}")),
            code => escaped.push_str(&format!("\\+{code:06X}")),
        }
        escaped
    })
}

fn database_is_utf8() -> bool {
    // SAFETY: a plain read of the database's encoding.
    unsafe { pg_sys::GetDatabaseEncoding() == pg_sys::pg_enc::PG_UTF8 as i32 }
}

/// Turns a `Result` into an error of Postgres, for outermost functions only.
pub trait OrRaise<T> {
    /// Returns the value, or raises the error.
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
