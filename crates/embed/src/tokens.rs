//! Tokenizes texts: turns a text into the ids of its tokens.
//!
//! The truncation and padding of the tokenizers crate are switched off. Padding would start threads of the
//! global rayon pool, truncation would first tokenize all of a long text, and `tokenizer.json` often sets
//! both to lengths that are not the model's.

use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use leann_value::Role;
use tokenizers::models::ModelWrapper;
use tokenizers::{PostProcessor, Tokenizer, TruncationDirection};

use crate::EmbedError;
use crate::spec::ModelSpec;

/// A text as the model gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tokens {
    /// At least one token id, special tokens included.
    pub ids: Vec<u32>,
    /// Whether the text was longer than the model's maximum.
    pub truncated: bool,
}

/// A model's tokenizer, with its prompts and its maximum length.
pub struct TextTokenizer {
    tokenizer: Tokenizer,
    model: Arc<str>,
    max_tokens: usize,
    special_tokens: usize,
    lower_case: bool,
    query_prompt: String,
    passage_prompt: String,
    pad_token: u32,
}

/// Number of bytes of a text, for each token the model takes, that are looked at. The rest is ignored. It
/// bounds the time and memory for a text of many megabytes without a word in it.
const MAX_BYTES_PER_TOKEN: usize = 1024;
/// Number of bytes of a long text, for each token the model takes, that are tokenized at first: more than
/// enough for the model's maximum in most languages.
const FIRST_BYTES_PER_TOKEN: usize = 16;
/// Number of tokens before a cut that are not trusted: a text that is cut where there is no blank may have
/// other tokens there than the whole text.
const UNTRUSTED_TOKENS: usize = 16;
/// Largest length of a word in characters that a `tokenizer.json` may set for WordPiece. Longer words become
/// one unknown token. The time for a word grows with the third power of its length, and published models set
/// 100.
const MAX_WORD_CHARS: usize = 200;
/// Largest number of blanks, in bytes, that stay between the prompt and a text, where sentence-transformers
/// keeps them all. If there are more, all are dropped, so that they cannot crowd out the text.
const MAX_LEADING_BLANKS: usize = 1024;

impl TextTokenizer {
    /// Reads the tokenizer of a model. `ModelFile` if `tokenizer.json` is not a tokenizer, `Unsupported` if
    /// the special tokens leave no room for a text within the model's maximum.
    pub fn load(spec: &ModelSpec) -> Result<TextTokenizer, EmbedError> {
        let json = spec.tokenizer_json()?;
        let refuse = |e: TokenizerError| EmbedError::ModelFile {
            path: spec.tokenizer_path().to_owned(),
            reason: e.to_string(),
        };
        let mut tokenizer = guarded(|| Tokenizer::from_bytes(&json)).map_err(refuse)?;
        let padding = tokenizer.get_padding().map(|padding| padding.pad_id);
        tokenizer.with_padding(None);
        guarded(|| tokenizer.with_truncation(None).map(|_| ())).map_err(refuse)?;
        limit_words(&mut tokenizer);
        let special_tokens =
            tokenizer.get_post_processor().map_or(0, |processor| processor.added_tokens(false));
        let max_tokens = spec.max_tokens();
        if special_tokens >= max_tokens {
            let reason =
                format!("{special_tokens} special tokens leave no room for a text in {max_tokens} tokens");
            return Err(EmbedError::Unsupported { model: spec.name().to_owned(), reason });
        }
        Ok(TextTokenizer {
            tokenizer,
            model: spec.name().into(),
            max_tokens,
            special_tokens,
            lower_case: spec.settings().lower_case,
            query_prompt: spec.prompt(Role::Query).to_owned(),
            passage_prompt: spec.prompt(Role::Passage).to_owned(),
            pad_token: spec.settings().pad_token.or(padding).unwrap_or(0),
        })
    }

    /// Returns the id that stands for no token. Some models find a token's position by it.
    pub fn pad_token(&self) -> u32 {
        self.pad_token
    }

    /// Returns the tokens of the prompt for `role` and the text, with the model's special tokens: at least
    /// one, at most `max_tokens`. They depend only on the text and the role.
    ///
    /// `Tokenizer` if the tokenizer refuses the text; `Stopped` once `should_stop`, called now and then,
    /// returns true.
    pub fn tokenize(
        &self,
        text: &str,
        role: Role,
        should_stop: &dyn Fn() -> bool,
    ) -> Result<Tokens, EmbedError> {
        // Blanks at the ends count neither toward the bytes looked at nor as truncated text.
        let text = self.without_outer_blanks(text, role);
        let looked_at = &text[..cut_at(text, self.max_tokens * MAX_BYTES_PER_TOKEN)];
        let prepared = self.prepared(looked_at, role);
        let failed = |e: TokenizerError| EmbedError::Tokenizer {
            model: self.model.to_string(),
            reason: e.to_string(),
        };
        let split = guarded(|| self.tokenize_prepared(&prepared, should_stop)).map_err(failed)?;
        let mut tokens = split.ok_or(EmbedError::Stopped)?;
        tokens.truncated |= looked_at.len() < text.len();
        if tokens.ids.is_empty() {
            // An empty text and a tokenizer without special tokens: the model needs at least one token.
            tokens.ids.push(self.pad_token);
        }
        Ok(tokens)
    }

    /// Returns what is put before a text of this role.
    fn prompt(&self, role: Role) -> &str {
        match role {
            Role::Query => &self.query_prompt,
            Role::Passage => &self.passage_prompt,
        }
    }

    /// Drops the blanks at the end, and those at the beginning unless a prompt comes before them and they are
    /// few.
    fn without_outer_blanks<'t>(&self, text: &'t str, role: Role) -> &'t str {
        let text = text.trim_end();
        let begin = text.len() - text.trim_start().len();
        let dropped = self.prompt(role).trim().is_empty() || begin > MAX_LEADING_BLANKS;
        if dropped { &text[begin..] } else { text }
    }

    /// Returns the text after its prompt and without blanks at either end, as sentence-transformers prepares
    /// it.
    fn prepared<'t>(&self, text: &'t str, role: Role) -> Cow<'t, str> {
        let prompt = self.prompt(role);
        let text =
            if prompt.is_empty() { Cow::Borrowed(text) } else { Cow::Owned(format!("{prompt}{text}")) };
        if self.lower_case {
            return Cow::Owned(text.trim().to_lowercase());
        }
        match text {
            Cow::Borrowed(text) => Cow::Borrowed(text.trim()),
            Cow::Owned(text) => Cow::Owned(text.trim().to_owned()),
        }
    }

    /// Tokenizes a prepared text, from its beginning only as far as needed. None once `should_stop` returns
    /// true.
    fn tokenize_prepared(
        &self,
        text: &str,
        should_stop: &dyn Fn() -> bool,
    ) -> tokenizers::Result<Option<Tokens>> {
        let room = self.max_tokens - self.special_tokens;
        let mut bytes = self.max_tokens * FIRST_BYTES_PER_TOKEN;
        let mut encoding = loop {
            if should_stop() {
                return Ok(None);
            }
            let end = cut_at(text, bytes);
            let encoding = self.tokenizer.encode_fast(&text[..end], false)?;
            if end == text.len() || encoding.len() > room + UNTRUSTED_TOKENS {
                break encoding;
            }
            bytes *= 4;
        };
        let truncated = encoding.len() > room;
        if truncated {
            encoding.truncate(room, 0, TruncationDirection::Right);
            // Truncation keeps the rest of the text as further windows, to which post-processing would add
            // special tokens.
            encoding.take_overflowing();
        }
        let encoding = self.tokenizer.post_process(encoding, None, true)?;
        Ok(Some(Tokens { ids: encoding.get_ids().to_vec(), truncated }))
    }
}

/// Lowers the tokenizer's limit on words to [`MAX_WORD_CHARS`].
fn limit_words(tokenizer: &mut Tokenizer) {
    if let ModelWrapper::WordPiece(words) = tokenizer.get_model()
        && words.max_input_chars_per_word > MAX_WORD_CHARS
    {
        let mut words = words.clone();
        words.max_input_chars_per_word = MAX_WORD_CHARS;
        tokenizer.with_model(words);
    }
}

/// Returns where to end a text of at most `bytes` bytes: at a blank if one is near, or else between two
/// characters.
fn cut_at(text: &str, bytes: usize) -> usize {
    if text.len() <= bytes {
        return text.len();
    }
    let end = text.floor_char_boundary(bytes);
    let near = text.floor_char_boundary(end - end / 4);
    text[near..end].rfind(char::is_whitespace).map_or(end, |blank| near + blank)
}

/// Why the tokenizer gave nothing.
#[derive(Debug, thiserror::Error)]
enum TokenizerError {
    #[error(transparent)]
    Refused(#[from] tokenizers::Error),
    #[error("the tokenizer panicked")]
    Panicked,
}

/// Calls the tokenizer and turns a panic in it into an error.
fn guarded<T>(work: impl FnOnce() -> tokenizers::Result<T>) -> Result<T, TokenizerError> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|_| TokenizerError::Panicked)?.map_err(TokenizerError::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn cuts_at_a_blank_or_between_characters() {
        assert_eq!(cut_at("short", 10), 5);
        assert_eq!(cut_at("aaaa bbbb cccc", 10), 9);
        assert_eq!(cut_at("aaaaaaaaaaaaaa", 10), 10);
        assert_eq!(cut_at("ééééééé", 5), 4);
    }

    proptest! {
        #[test]
        fn any_text_can_be_cut(text in "\\PC{0,60}", bytes in 1usize..100) {
            let end = cut_at(&text, bytes);
            prop_assert!(text.is_char_boundary(end) && end <= text.len());
            prop_assert!(end == text.len() || end <= bytes);
        }
    }
}
