//! Literals, operands and bytes: properties of random ones, and examples.

mod drive;
mod support;

use leann_value::{DecodeError, MAX_DIM, NameError, Role, Value, ValueError, check_name};
use proptest::prelude::*;
use support::{FORMS, PIECES, written};

proptest! {
    #[test]
    fn any_literal(pieces in prop::collection::vec(prop::sample::select(PIECES), 0..12)) {
        drive::literal(&pieces.concat());
    }

    #[test]
    fn any_operand(pieces in prop::collection::vec(prop::sample::select(PIECES), 0..12), dim in 1usize..5) {
        drive::operand(&pieces.concat(), dim);
    }

    #[test]
    fn any_list_of_numbers(
        numbers in prop::collection::vec(any::<f32>(), 1..9),
        form in prop::sample::select(FORMS),
        other in 1usize..9,
    ) {
        let text = written(&numbers, form);
        drive::operand(&text, other);
        let words = || Value::query(text.clone());
        let meant = Value::dense(numbers.clone()).unwrap_or_else(|_| words());
        prop_assert_eq!(Value::operand(&text, numbers.len()), meant);
    }

    #[test]
    fn any_bytes(
        kind in 0u8..4, role in 0u8..4, model in 0u8..9, body in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        drive::bytes(&[&[kind, role, 0, model, 0, 0, 0, 0], body.as_slice()].concat());
    }

    #[test]
    fn any_numbers(numbers in prop::collection::vec(any::<f32>(), 1..20)) {
        let literal = format!("[{}]", numbers.iter().map(f32::to_string).collect::<Vec<_>>().join(", "));
        drive::literal(&literal);
        let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_be_bytes()).collect();
        drive::bytes(&[&[2, 0, 0, 0, 0, 0, 0, 0], bytes.as_slice()].concat());
    }
}

#[test]
fn the_three_forms() {
    assert_eq!(Value::parse("[3, 4]"), Ok(Value::Dense(vec![0.6, 0.8])));
    assert_eq!(Value::parse("how?"), Ok(Value::query("how?".to_owned())));
    let passage = Value::Deferred { text: "x".to_owned(), role: Role::Passage, model: Some("m".to_owned()) };
    assert_eq!(Value::parse(r#"leann:{"text":"x","role":"passage","model":"m"}"#), Ok(passage));
}

#[test]
fn an_operand_is_words() {
    let literals = [
        "[2024]",
        "[]",
        "{1,2}",
        "[1,2,3,4]",
        "1,2",
        "[1,2,x]",
        "[1,,2]",
        "{1 2,3}",
        "[1,2,3}",
        "((1,2,3))",
        "",
    ];
    let structured = r#"leann:{"text":"x","model":"another"}"#;
    for text in literals.into_iter().chain([structured]) {
        assert_eq!(Value::operand(text, 3), Value::query(text.to_owned()));
    }
    assert_eq!(Value::operand(" {\"3\", \"4\"} ", 2), Value::Dense(vec![0.6, 0.8]));
    for text in ["[0,0]", "nan, 1", "[1e39,1]"] {
        assert_eq!(Value::operand(text, 2), Value::query(text.to_owned()));
    }
}

#[test]
fn what_is_refused() {
    for literal in
        ["[]", "[0]", "[nan]", "[1e39]", r#"leann:{"text":"\u0000"}"#, r#"leann:{"text":"x","model":"../m"}"#]
    {
        assert!(Value::parse(literal).is_err(), "{literal}");
    }
    assert!(Value::dense(vec![1.0; MAX_DIM + 1]).is_err());
    for bytes in
        [&[][..], &[1, 1, 0, 9, 0, 0, 0, 0], &[2, 0, 0, 0, 0, 0, 0, 0, 1], &[1, 1, 0, 0, 0, 0, 0, 0, 0xff]]
    {
        assert!(Value::decode(bytes).is_err(), "{bytes:?}");
    }
}

/// Clients read these.
#[test]
fn messages_of_errors() {
    let refused = |literal: &str| Value::parse(literal).unwrap_err().to_string();
    assert_eq!(refused("[]"), "an embedding must have at least one dimension");
    assert_eq!(refused("[1, nan]"), "an embedding must not contain NaN");
    assert_eq!(refused("[-inf]"), "an embedding must not contain infinity");
    assert_eq!(refused("[0, 0]"), "an embedding must not be all zeros, which point nowhere");
    assert_eq!(refused("[1, 1e39]"), "\"1e39\" is out of range for type real");
    assert_eq!(
        refused(r#"leann:{"text":"\u0000"}"#),
        "the text of an embedding must not contain a null character"
    );
    assert_eq!(refused(r#"leann:{"text":"x","model":".m"}"#), "a model name must not begin with a dot");
    let long = Value::dense(vec![1.0; MAX_DIM + 1]).unwrap_err();
    assert_eq!(long, ValueError::TooManyDimensions(16_001));
    assert_eq!(long.to_string(), "an embedding cannot have more than 16000 dimensions, not 16001");

    let name = |name: &str| check_name(name).unwrap_err().to_string();
    assert_eq!(name(""), "must not be empty");
    assert_eq!(name(&"m".repeat(128)), "must not be longer than 127 bytes");
    assert_eq!(name("a/b"), "must not contain a slash");
    assert_eq!(name("a\tb"), "must not contain control characters");
    assert_eq!(check_name(".."), Err(NameError::LeadingDot));

    assert_eq!(Value::decode(&[0; 7]), Err(DecodeError::Prefix));
    assert_eq!(DecodeError::Prefix.to_string(), "its prefix is not one of an embedding");
    let vector = |numbers: &[u8]| Value::decode(&[&[2, 0, 0, 0, 0, 0, 0, 0], numbers].concat());
    assert_eq!(vector(&[]).unwrap_err().to_string(), "its number of dimensions is impossible");
    assert_eq!(vector(&[1]).unwrap_err().to_string(), "its length is not one of a vector");
    let deferred = |kind: u8, name: u8| Value::decode(&[kind, 1, 0, name, 0, 0, 0, 0, 0xff]).unwrap_err();
    assert_eq!(deferred(1, 2).to_string(), "its model's name is cut off");
    assert_eq!(deferred(1, 1).to_string(), "its model's name is not UTF-8");
    assert_eq!(deferred(1, 0).to_string(), "its text is not UTF-8");
    assert_eq!(deferred(3, 0).to_string(), "it is of no known kind");
}
