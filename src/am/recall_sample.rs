//! Draws queries for `leann.recall` from the rows of a table: which rows, and what a user would type to find
//! one of them.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use leann_value::Value;
use leann_vector::Rng;

/// Maximum words of a text that make a query. The whole text would find its own row too easily.
const MAX_WORDS: usize = 12;

/// Maximum characters of a word. A longer one is a text without spaces, as in Chinese or Japanese, or no
/// word.
const MAX_WORD_CHARS: usize = 40;

/// Ends of sentences that no space follows.
const WIDE_STOPS: [char; 3] = ['。', '！', '？'];

/// Ends of sentences before a space.
const STOPS: [char; 6] = ['.', '!', '?', '…', '؟', '।'];

/// What may follow the end of a sentence before the space.
const CLOSING: [char; 8] = ['"', '\'', ')', ']', '”', '’', '»', '」'];

/// Queries drawn at random from rows that are offered one after another.
///
/// Every row gets a random key, and the different queries of the smallest keys are kept. That is as if the
/// rows were taken in random order until there are enough different queries. Only kept queries take memory,
/// and a row with too large a key is not even read.
pub struct Sample {
    size: usize,
    rng: Rng,
    by_key: BTreeMap<u64, Rc<str>>,
    keys: HashMap<Rc<str>, u64>,
}

impl Sample {
    /// Starts a sample of at most `size` queries.
    pub fn new(size: usize, seed: u64) -> Sample {
        Sample { size, rng: Rng::new(seed), by_key: BTreeMap::new(), keys: HashMap::new() }
    }

    /// Offers a row. `read` returns its value, or None if the index does not hold the row.
    pub fn offer(&mut self, read: impl FnOnce() -> Option<Value>) {
        // The generator repeats no number.
        let key = self.rng.next();
        let full = self.by_key.len() >= self.size;
        if full && self.by_key.last_key_value().is_none_or(|(&last, _)| key > last) {
            return;
        }
        let Some(query) = read().and_then(|value| query_like(&value)) else { return };
        let query: Rc<str> = query.into();
        let earlier = self.keys.get(&query).copied();
        if earlier.is_some_and(|earlier| earlier < key) {
            return;
        }
        if let Some(earlier) = earlier {
            self.by_key.remove(&earlier);
        }
        self.keys.insert(query.clone(), key);
        self.by_key.insert(key, query);
        if self.by_key.len() > self.size
            && let Some((_, dropped)) = self.by_key.pop_last()
        {
            self.keys.remove(&dropped);
        }
    }

    /// Returns the queries in random order: as many as were asked for, or fewer if there are no others.
    pub fn into_queries(self) -> Vec<String> {
        self.by_key.into_values().map(|query| query.to_string()).collect()
    }
}

/// Returns the query to make of a row, or None for a blank text. A vector has no shorter form, so the query
/// is that vector, which the distance to a text reads as one.
fn query_like(value: &Value) -> Option<String> {
    match value {
        Value::Deferred { text, .. } => beginning(text),
        Value::Dense(_) => Some(value.literal()),
    }
}

/// Returns the first sentence of a text, or its first words if that is long, or None if it is blank.
fn beginning(text: &str) -> Option<String> {
    let mut query = String::new();
    for word in text.split_whitespace().take(MAX_WORDS) {
        let first = query.is_empty();
        if !first {
            query.push(' ');
        }
        let part = beginning_of_word(word);
        query.push_str(part);
        // A single word with a full stop is rather an abbreviation, or the number of a list, than a sentence.
        if part.len() < word.len() || part.ends_with(WIDE_STOPS) || (!first && ends_sentence(part)) {
            break;
        }
    }
    (!query.is_empty()).then_some(query)
}

/// Returns a word up to the end of a sentence inside it, and at most its first characters.
fn beginning_of_word(word: &str) -> &str {
    let mut characters = word.char_indices().take(MAX_WORD_CHARS);
    let stop = characters.find(|(_, character)| WIDE_STOPS.contains(character));
    let end = match stop {
        Some((at, character)) => at + character.len_utf8(),
        None => word.char_indices().nth(MAX_WORD_CHARS).map_or(word.len(), |(at, _)| at),
    };
    &word[..end]
}

fn ends_sentence(word: &str) -> bool {
    word.trim_end_matches(CLOSING).ends_with(STOPS)
}
