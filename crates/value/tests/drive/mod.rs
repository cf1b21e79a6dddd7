//! What holds for any literal and any bytes. The property tests and the fuzz targets of fuzz/ share it.

// Each user drives one of the two.
#![allow(dead_code)]

use leann_value::Value;

/// A literal either is refused or is a value that its own literal and its own bytes give again.
pub fn literal(literal: &str) {
    // Postgres hands over C strings.
    if let Some(value) = Value::parse(literal).ok().filter(|_| !literal.contains('\0')) {
        comes_back(&value);
    }
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
