//! The right operand of a distance operator if it is a text.
//!
//! A text is words to search for, whatever it looks like: it is never read as a literal of the type, because
//! the words of a visitor must not select a model, and it is never an error. But drivers also send vectors as
//! text, in the brackets of their language. Therefore a list of exactly as many numbers as the model has
//! dimensions is a vector; a query of hundreds of numbers in a row is not plausible.

use crate::Value;

/// Pairs of brackets that may enclose a list of numbers.
const BRACKETS: [(char, char); 3] = [('[', ']'), ('{', '}'), ('(', ')')];

impl Value {
    /// Interprets a text for a model of `dim` dimensions: as a vector if it is a list of `dim` numbers, else
    /// as words in the query role. Numbers that cannot be a vector, such as all zeros, are words.
    pub fn operand(text: &str, dim: usize) -> Value {
        let vector = list_of(text, dim).and_then(|numbers| Value::dense(numbers).ok());
        vector.unwrap_or_else(|| Value::query(text.to_owned()))
    }
}

/// Reads the numbers of a text that consists of a list of `count` numbers; `None` if the text is anything
/// else. The list may have brackets of any kind, and commas or blanks between the numbers, each of which may
/// be in double quotes.
fn list_of(text: &str, count: usize) -> Option<Vec<f32>> {
    let text = text.trim_ascii();
    let inside = |(open, close)| text.strip_prefix(open)?.strip_suffix(close);
    let list = BRACKETS.into_iter().find_map(inside).unwrap_or(text);
    let mut numbers = Vec::new();
    for item in items(list) {
        if numbers.len() == count {
            return None;
        }
        numbers.push(number(item)?);
    }
    (numbers.len() == count).then_some(numbers)
}

/// Splits a list at commas if it has any, else at blanks.
fn items(list: &str) -> Box<dyn Iterator<Item = &str> + '_> {
    if list.contains(',') { Box::new(list.split(',')) } else { Box::new(list.split_ascii_whitespace()) }
}

/// Reads a number, in double quotes or not.
fn number(item: &str) -> Option<f32> {
    let item = item.trim_ascii();
    let bare = item.strip_prefix('"').and_then(|item| item.strip_suffix('"')).unwrap_or(item);
    crate::literal::number(bare)?.ok()
}
