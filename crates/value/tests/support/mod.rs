//! The alphabets of random literals, operands and lists of numbers.

/// Pieces of strings that look like something else.
pub const PIECES: &[&str] = &[
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

/// What drivers and people write before a list of numbers, between two of them, and after it.
pub const FORMS: &[[&str; 3]] = &[
    ["[", ",", "]"],
    ["{", ",", "}"],
    ["(", ", ", ")"],
    ["", ",", ""],
    ["{\"", "\",\"", "\"}"],
    ["[ ", " ", "]"],
    [" ", " , ", "\n"],
    ["[", "\n  ", "]"],
];

/// Writes a list of numbers in one of the forms.
pub fn written(numbers: &[f32], [before, between, after]: [&str; 3]) -> String {
    let numbers: Vec<String> = numbers.iter().map(f32::to_string).collect();
    format!("{before}{}{after}", numbers.join(between))
}
