//! What holds for any literal, any text operand and any bytes. The property tests and the fuzz targets of fuzz/ share it.

// Each user drives some of them.
#![allow(dead_code)]

use leann_value::Value;

/// A literal either is refused or is a value that its own literal and its own bytes give again.
pub fn literal(literal: &str) {
    // Postgres hands over C strings.
    if let Some(value) = Value::parse(literal).ok().filter(|_| !literal.contains('\0')) {
        comes_back(&value);
    }
}

/// A text as the right operand of a distance is words in the query role, whatever it looks like, unless it is a list of
/// `dim` numbers that make a vector.
pub fn operand(text: &str, dim: usize) {
    match Value::operand(text, dim) {
        Value::Dense(numbers) => {
            assert_eq!(numbers.len(), dim);
            assert!(only_numbers(text, dim), "taken for a vector: {text:?}");
        }
        words => assert_eq!(words, Value::query(text.to_owned())),
    }
}

/// Another reading of the same rule: without brackets and quotes, `dim` numbers and separators are all there is.
fn only_numbers(text: &str, dim: usize) -> bool {
    let bare = text.replace(['[', ']', '{', '}', '(', ')', '"'], "");
    let words = bare.split(|c: char| c == ',' || c.is_ascii_whitespace()).filter(|word| !word.is_empty());
    let numbers: Vec<_> = words.map(str::parse::<f32>).collect();
    numbers.len() == dim && numbers.iter().all(Result::is_ok)
}

/// Bytes of a client either are refused or are a value that comes back.
pub fn bytes(bytes: &[u8]) {
    let Ok(value) = Value::decode(bytes) else { return };
    // What is on disk is what was written: the same value has the same bytes. (Only bytes: a NaN differs from itself.)
    if !matches!(value, Value::Dense(_)) {
        assert_eq!(encoded(&value), bytes);
    }
    if let Ok(value) = value.checked() {
        comes_back(&value);
    }
}

fn comes_back(value: &Value) {
    assert_eq!(Value::decode(&encoded(value)).as_ref(), Ok(value), "by its bytes");
    assert_eq!(value.clone().checked().as_ref(), Ok(value), "checked twice");
    let literal = value.literal();
    assert_eq!(Value::parse(&literal).as_ref(), Ok(value), "by its literal {literal:?}");
}

fn encoded(value: &Value) -> Vec<u8> {
    let mut bytes = vec![0xff; value.encoded_len()];
    value.encode(&mut bytes);
    bytes
}
