//! Text between the encoding of the database and UTF-8, which is what all Rust strings are in.
//!
//! Values are converted strictly: what cannot be is an ERROR. Names, listings and messages must come through whatever is in
//! them: there a substitute stands for what cannot be converted.

use crate::error::Error;
use pgrx::pg_sys;
use pgrx::pg_sys::errcodes::PgSqlErrorCode;
use std::borrow::Cow;
use std::ffi::{CStr, c_char, c_int};

const UTF8: c_int = pg_sys::pg_enc::PG_UTF8 as c_int;
const SQL_ASCII: c_int = pg_sys::pg_enc::PG_SQL_ASCII as c_int;

/// Room for one character of at most four bytes: the server takes a byte to become four at most, and ends with a zero.
const CHARACTER_ROOM: usize = 32;

fn of_database() -> c_int {
    // SAFETY: a plain read of the database's encoding.
    unsafe { pg_sys::GetDatabaseEncoding() }
}

/// Text in the database's encoding as UTF-8. Raises an ERROR for bytes that are not text.
pub fn utf8(bytes: &[u8]) -> Cow<'_, str> {
    if of_database() == UTF8 {
        match std::str::from_utf8(bytes) {
            Ok(text) => return Cow::Borrowed(text),
            Err(_) => not_text().raise(),
        }
    }
    // SAFETY: the pointer and length are those of a slice. The result is the same pointer, or a C string of its own.
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

/// UTF-8 text in the database's encoding. Raises an ERROR for a character that it lacks.
pub fn to_server_encoding(text: &str) -> Cow<'_, [u8]> {
    // SAFETY: as in `utf8`, the other way round.
    unsafe {
        if of_database() == UTF8 {
            return Cow::Borrowed(text.as_bytes());
        }
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

/// A name in the database's encoding as UTF-8, with a replacement character for what is not text.
pub fn utf8_lossy(bytes: &[u8]) -> Cow<'_, str> {
    // Names in ASCII are the same in every encoding; so is what cannot be converted outside a transaction.
    match converter(of_database(), UTF8) {
        Some(convert) if !bytes.is_ascii() => {
            Cow::Owned(String::from_utf8_lossy(&convert.all(bytes)).into_owned())
        }
        _ => String::from_utf8_lossy(bytes),
    }
}

/// A text for a listing, with `?` in the place of each character that the database's encoding lacks.
pub fn representable(text: String) -> String {
    match converter(UTF8, of_database()) {
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

/// The text of an error or notice. pgrx passes its UTF-8 on as if it were in the database's encoding; so where that is another
/// one, characters beyond ASCII are written as the escapes of a `U&'...'` string: readable, and the same in every encoding.
pub fn message(text: String) -> String {
    if text.is_ascii() || of_database() == UTF8 {
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

/// A conversion of the server's from one encoding to another.
struct Converter {
    function: pg_sys::Oid,
    from: c_int,
    to: c_int,
}

/// None where there is nothing to convert, or no catalog to find out how.
fn converter(from: c_int, to: c_int) -> Option<Converter> {
    // SAFETY: the catalogs are asked within a transaction only.
    let function = unsafe {
        if from == to || from == SQL_ASCII || to == SQL_ASCII || !pg_sys::IsTransactionState() {
            return None;
        }
        pg_sys::FindDefaultConversionProc(from, to)
    };
    (function != pg_sys::InvalidOid).then_some(Converter { function, from, to })
}

impl Converter {
    /// Converts character after character, so that one that cannot be converted spoils no other.
    fn all(&self, text: &[u8]) -> Vec<u8> {
        let mut converted = Vec::with_capacity(text.len());
        let mut rest = text;
        while !rest.is_empty() {
            // SAFETY: for encodings of a server the length is told by the first byte, which is there.
            let length = unsafe { pg_sys::pg_encoding_mblen(self.from, rest.as_ptr().cast()) };
            let length = usize::try_from(length).unwrap_or(1).clamp(1, rest.len());
            let (character, after) = rest.split_at(length);
            converted.extend(self.one(character).unwrap_or_else(|| b"?".to_vec()));
            rest = after;
        }
        converted
    }

    /// None for one that the other encoding lacks.
    fn one(&self, character: &[u8]) -> Option<Vec<u8>> {
        let mut out = [0u8; CHARACTER_ROOM];
        // SAFETY: the source is a slice with its length, the destination has the length given, and errors are not raised.
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
