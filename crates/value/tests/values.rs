//! Literals and bytes of values, chosen by chance and by hand.

mod drive;

use leann_value::{MAX_DIM, Role, Value};
use proptest::prelude::*;

/// Pieces of which strings are made that look like something else.
const PIECES: &[&str] = &[
    "[",
    "]",
    ",",
    "1",
    "-0",
    ".5",
    "1e-40",
    "3.4e38",
    "nan",
    "inf",
    "leann:",
    "{",
    "}",
    "\"text\":",
    "\"role\":",
    "\"model\":",
    "\"passage\"",
    "\"query\"",
    "\"",
    "\\",
    "\\u0000",
    "\\ud800",
    "\n",
    " ",
    "ß",
    "🦀",
    "\u{feff}",
    "a",
];

/// How drivers and people write a list of numbers: before it, between two, after it.
const FORMS: &[[&str; 3]] = &[
    ["[", ",", "]"],
    ["{", ",", "}"],
    ["(", ", ", ")"],
    ["", ",", ""],
    ["{\"", "\",\"", "\"}"],
    ["[ ", " ", "]"],
    [" ", " , ", "\n"],
    ["[", "\n  ", "]"],
];

fn written(numbers: &[f32], [before, between, after]: [&str; 3]) -> String {
    let numbers: Vec<String> = numbers.iter().map(f32::to_string).collect();
    format!("{before}{}{after}", numbers.join(between))
}

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
    fn any_bytes(kind in 0u8..4, role in 0u8..4, model in 0u8..9, body in prop::collection::vec(any::<u8>(), 0..64)) {
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
