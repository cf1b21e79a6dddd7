//! Converts text between the encoding of the database and UTF-8, the encoding of all Rust strings.
//!
//! Values are converted strictly: a character that cannot be converted is an ERROR. Names, listings and
//! messages must get through whatever they contain, so there a substitute stands for such a character.

use crate::error::Error;
use pgrx::pg_sys;
use pgrx::pg_sys::errcodes::PgSqlErrorCode;
use std::borrow::Cow;
use std::ffi::{CStr, c_char, c_int};

const UTF8: c_int = pg_sys::pg_enc::PG_UTF8 as c_int;
const SQL_ASCII: c_int = pg_sys::pg_enc::PG_SQL_ASCII as c_int;

/// Bytes of the buffer for one converted character. A character has at most four bytes; the server assumes
/// that each may become four, and appends a zero.
const CONVERSION_BUFFER_BYTES: usize = 32;

fn database_encoding() -> c_int {
    // SAFETY: a plain read of the database's encoding.
    unsafe { pg_sys::GetDatabaseEncoding() }
}

/// Converts a text from the database's encoding to UTF-8. Raises an ERROR for bytes that are not text.
pub fn utf8(bytes: &[u8]) -> Cow<'_, str> {
    if database_encoding() == UTF8 {
        match std::str::from_utf8(bytes) {
            Ok(text) => return Cow::Borrowed(text),
            Err(_) => not_text().raise(),
        }
    }
    // SAFETY: the pointer and length are those of a slice. The result is the same pointer, or a new C string.
    let converted = unsafe {
        let start = bytes.as_ptr().cast::<c_char>();
        let converted = pg_sys::pg_server_to_any(start, bytes.len() as c_int, UTF8);
        if converted.cast_const() == start { bytes } else { CStr::from_ptr(converted).to_bytes() }
    };
    match std::str::from_utf8(converted) {
        Ok(text) => Cow::Owned(text.to_owned()),
        Err(_) => not_text().raise(),
    }
}

/// Converts a UTF-8 text to the database's encoding. Raises an ERROR for a character that the encoding lacks.
pub fn to_server_encoding(text: &str) -> Cow<'_, [u8]> {
    if database_encoding() == UTF8 {
        return Cow::Borrowed(text.as_bytes());
    }
    // SAFETY: the pointer and length are those of a slice. The result is the same pointer, or a new C string.
    unsafe {
        let start = text.as_ptr().cast::<c_char>();
        let converted = pg_sys::pg_any_to_server(start, text.len() as c_int, UTF8);
        if converted.cast_const() == start {
            return Cow::Borrowed(text.as_bytes());
        }
        Cow::Owned(CStr::from_ptr(converted).to_bytes().to_vec())
    }
}

fn not_text() -> Error {
    Error::new(
        PgSqlErrorCode::ERRCODE_CHARACTER_NOT_IN_REPERTOIRE,
        "the bytes of a text are not valid in the encoding of the database",
    )
}

/// Converts a name from the database's encoding to UTF-8, with a replacement character for what is not text.
pub fn utf8_lossy(bytes: &[u8]) -> Cow<'_, str> {
    // ASCII names are the same in every encoding. Outside a transaction there is no conversion, and other
    // bytes are replaced.
    match converter(database_encoding(), UTF8) {
        Some(convert) if !bytes.is_ascii() => {
            Cow::Owned(String::from_utf8_lossy(&convert.all(bytes)).into_owned())
        }
        _ => String::from_utf8_lossy(bytes),
    }
}

/// Returns a text for a listing, with `?` in place of each character that the database's encoding lacks.
pub fn representable(text: String) -> String {
    match converter(UTF8, database_encoding()) {
        Some(convert) if !text.is_ascii() => text
            .chars()
            .map(|character| {
                let bytes = character.encode_utf8(&mut [0; 4]).as_bytes().to_vec();
                if convert.one(&bytes).is_some() { character } else { '?' }
            })
            .collect(),
        _ => text,
    }
}

/// One of the server's conversions between two encodings.
struct Converter {
    function: pg_sys::Oid,
    from: c_int,
    to: c_int,
}

/// Returns the conversion between two encodings, or None if there is nothing to convert, or no transaction in
/// which to read the catalogs.
fn converter(from: c_int, to: c_int) -> Option<Converter> {
    // SAFETY: the catalogs are read within a transaction only.
    let function = unsafe {
        if from == to || from == SQL_ASCII || to == SQL_ASCII || !pg_sys::IsTransactionState() {
            return None;
        }
        pg_sys::FindDefaultConversionProc(from, to)
    };
    (function != pg_sys::InvalidOid).then_some(Converter { function, from, to })
}

impl Converter {
    /// Converts one character at a time, so that one that cannot be converted spoils no other.
    fn all(&self, text: &[u8]) -> Vec<u8> {
        let mut converted = Vec::with_capacity(text.len());
        let mut rest = text;
        while !rest.is_empty() {
            // SAFETY: for encodings of a server the first byte tells the length, and there is one.
            let length = unsafe { pg_sys::pg_encoding_mblen(self.from, rest.as_ptr().cast()) };
            let length = usize::try_from(length).unwrap_or(1).clamp(1, rest.len());
            let (character, after) = rest.split_at(length);
            converted.extend(self.one(character).unwrap_or_else(|| b"?".to_vec()));
            rest = after;
        }
        converted
    }

    /// Converts one character. Returns None if the other encoding lacks it.
    fn one(&self, character: &[u8]) -> Option<Vec<u8>> {
        let mut out = [0u8; CONVERSION_BUFFER_BYTES];
        // SAFETY: the source is a slice with its length, the destination has the given length, and errors are
        // not raised.
        let done = unsafe {
            pg_sys::pg_do_encoding_conversion_buf(
                self.function,
                self.from,
                self.to,
                character.as_ptr().cast_mut(),
                character.len() as c_int,
                out.as_mut_ptr(),
                out.len() as c_int,
                true,
            )
        };
        let length = out.iter().position(|&byte| byte == 0).unwrap_or(out.len());
        (done as usize == character.len() && length > 0).then(|| out[..length].to_vec())
    }
}
