//! What holds for any literal, any text operand and any bytes. The property tests and the fuzz targets in
//! fuzz share it.

// Each user calls some of the functions.
#![allow(dead_code)]

use leann_value::Value;

/// Asserts that a literal is refused, or is a value that comes back from its literal and from its bytes.
pub fn literal(literal: &str) {
    // Postgres passes C strings, which have no NUL.
    if let Some(value) = Value::parse(literal).ok().filter(|_| !literal.contains('\0')) {
        comes_back(&value);
    }
}

/// Asserts that a text as the right operand of a distance is words in the query role, unless it is a list of
/// `dim` numbers that are a vector.
pub fn operand(text: &str, dim: usize) {
    match Value::operand(text, dim) {
        Value::Dense(numbers) => {
            assert_eq!(numbers.len(), dim);
            assert!(only_numbers(text, dim), "taken for a vector: {text:?}");
        }
        words => assert_eq!(words, Value::query(text.to_owned())),
    }
}

/// Checks the same rule in another way: without brackets and quotes, the text is `dim` numbers and
/// separators.
fn only_numbers(text: &str, dim: usize) -> bool {
    let bare = text.replace(['[', ']', '{', '}', '(', ')', '"'], "");
    let words = bare.split(|c: char| c == ',' || c.is_ascii_whitespace()).filter(|word| !word.is_empty());
    let numbers: Vec<_> = words.map(str::parse::<f32>).collect();
    numbers.len() == dim && numbers.iter().all(Result::is_ok)
}

/// Asserts that bytes of a client are refused, or are a value that comes back.
pub fn bytes(bytes: &[u8]) {
    let Ok(value) = Value::decode(bytes) else { return };
    // Equal values have equal bytes. (Not asked of vectors, because the bits of a NaN may change.)
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
