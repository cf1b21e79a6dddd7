//! The right operand of a distance operator that is a text.
//!
//! Whatever it is, it is words to search for: no literal of the type, for a visitor's words must not pick a model, and no
//! error. But drivers send vectors as text too, in the brackets of their language. So a list of exactly as many numbers
//! as the model has dimensions is a vector; nobody searches for hundreds of numbers in a row.

use crate::Value;

const BRACKETS: [(char, char); 3] = [('[', ']'), ('{', '}'), ('(', ')')];

impl Value {
    /// What a text means to a model of `dim` dimensions: words in the query role, or a vector. Numbers that make no vector, all
    /// zeros for one, are words too.
    pub fn operand(text: &str, dim: usize) -> Value {
        let vector = list_of(text, dim).and_then(|numbers| Value::dense(numbers).ok());
        vector.unwrap_or_else(|| Value::query(text.to_owned()))
    }
}

/// The numbers of a text that is wholly a list of `count` of them, in any brackets or none, separated by commas or by
/// blanks, each in double quotes or not.
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

fn items(list: &str) -> Box<dyn Iterator<Item = &str> + '_> {
    if list.contains(',') { Box::new(list.split(',')) } else { Box::new(list.split_ascii_whitespace()) }
}

fn number(item: &str) -> Option<f32> {
    let item = item.trim_ascii();
    let bare = item.strip_prefix('"').and_then(|item| item.strip_suffix('"')).unwrap_or(item);
    crate::literal::number(bare)?.ok()
}
