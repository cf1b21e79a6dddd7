//! From a text to the numbers of its tokens.
//!
//! The tokenizer's own truncation and padding are switched off. Its padding would start threads of the global rayon
//! pool, its truncation would first split the whole of a long text, and both are often baked into `tokenizer.json` at
//! lengths that are not the model's.

use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tokenizers::models::ModelWrapper;
use tokenizers::{PostProcessor, Tokenizer, TruncationDirection};

use crate::EmbedError;
use crate::Role;
use crate::spec::ModelSpec;

/// A text as the model sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tokens {
    pub ids: Vec<u32>,
    /// The text was longer than the model's maximum.
    pub truncated: bool,
}

pub struct TextTokens {
    tokenizer: Tokenizer,
    model: Arc<str>,
    max_tokens: usize,
    special_tokens: usize,
    lower_case: bool,
    query_prompt: String,
    passage_prompt: String,
    pad_token: u32,
}

/// No text needs more bytes than this for each token the model takes; what is behind is not looked at. It bounds the
/// time and memory that a text of many megabytes without a word in it can take.
const MAX_BYTES_PER_TOKEN: usize = 1024;
/// How much of a long text is split at first: more than enough for the model's maximum in most languages.
const FIRST_BYTES_PER_TOKEN: usize = 16;
/// Splitting the beginning of a text may end in other tokens than splitting it all would give at that place, if it is
/// cut where there is no blank; this many tokens at the cut are not trusted.
const UNSURE_TOKENS: usize = 16;
/// WordPiece takes time that grows with the third power of a word's length, up to a length that `tokenizer.json` names;
/// longer words become one unknown token. Published models say 100; no file may say more than this.
const MAX_WORD_CHARS: usize = 200;
/// sentence-transformers keeps blanks between the prompt and a text. More of them than these are dropped, so that they
/// cannot crowd out the text.
const MAX_LEADING_BLANKS: usize = 1024;

impl TextTokens {
    /// `ModelFile` if `tokenizer.json` is not a tokenizer, `Unsupported` if the model's maximum leaves no room for a
    /// text between the special tokens.
    pub fn load(spec: &ModelSpec) -> Result<TextTokens, EmbedError> {
        let json = spec.tokenizer_json()?;
        let refuse =
            |reason: String| EmbedError::ModelFile { path: spec.tokenizer_path().to_owned(), reason };
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
        Ok(TextTokens {
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

    /// The number that stands for no token. Some models find a token's position by it.
    pub fn pad_token(&self) -> u32 {
        self.pad_token
    }

    /// The tokens of the prompt for `role` and the text, with the model's special tokens: at least one, at most
    /// `max_tokens`. Depends on nothing but text and role. `Stopped` if `should_stop` says so, which is asked now and then.
    pub fn split(
        &self,
        text: &str,
        role: Role,
        should_stop: &dyn Fn() -> bool,
    ) -> Result<Tokens, EmbedError> {
        // Blanks at the ends count neither as text that is looked at nor as text that is cut off.
        let text = self.without_outer_blanks(text, role);
        let looked_at = &text[..cut_at(text, self.max_tokens * MAX_BYTES_PER_TOKEN)];
        let prepared = self.prepared(looked_at, role);
        let failed = |reason| EmbedError::Tokenizer { model: self.model.to_string(), reason };
        let split = guarded(|| self.split_prepared(&prepared, should_stop)).map_err(failed)?;
        let mut tokens = split.ok_or(EmbedError::Stopped)?;
        tokens.truncated |= looked_at.len() < text.len();
        if tokens.ids.is_empty() {
            // An empty text and a tokenizer without special tokens: the model still has to be given something.
            tokens.ids.push(self.pad_token);
        }
        Ok(tokens)
    }

    fn prompt(&self, role: Role) -> &str {
        match role {
            Role::Query => &self.query_prompt,
            Role::Passage => &self.passage_prompt,
        }
    }

    fn without_outer_blanks<'t>(&self, text: &'t str, role: Role) -> &'t str {
        let text = text.trim_end();
        let begin = text.len() - text.trim_start().len();
        let dropped = self.prompt(role).trim().is_empty() || begin > MAX_LEADING_BLANKS;
        if dropped { &text[begin..] } else { text }
    }

    /// With its prompt, and without blanks at either end, as sentence-transformers has it.
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

    /// None if it was to stop.
    fn split_prepared(
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
            if end == text.len() || encoding.len() > room + UNSURE_TOKENS {
                break encoding;
            }
            bytes *= 4;
        };
        let truncated = encoding.len() > room;
        if truncated {
            encoding.truncate(room, 0, TruncationDirection::Right);
            // The rest of the text, as further windows, which the next step would furnish with special tokens too.
            encoding.take_overflowing();
        }
        let encoding = self.tokenizer.post_process(encoding, None, true)?;
        Ok(Some(Tokens { ids: encoding.get_ids().to_vec(), truncated }))
    }
}

/// See [`MAX_WORD_CHARS`].
fn limit_words(tokenizer: &mut Tokenizer) {
    if let ModelWrapper::WordPiece(words) = tokenizer.get_model()
        && words.max_input_chars_per_word > MAX_WORD_CHARS
    {
        let mut words = words.clone();
        words.max_input_chars_per_word = MAX_WORD_CHARS;
        tokenizer.with_model(words);
    }
}

/// Where to end a text of at most `bytes` bytes: at a blank if there is one near, else between two characters.
fn cut_at(text: &str, bytes: usize) -> usize {
    if text.len() <= bytes {
        return text.len();
    }
    let end = text.floor_char_boundary(bytes);
    let near = text.floor_char_boundary(end - end / 4);
    text[near..end].rfind(char::is_whitespace).map_or(end, |blank| near + blank)
}

/// The tokenizer's errors, and its panics, as text.
fn guarded<T>(work: impl FnOnce() -> tokenizers::Result<T>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => result.map_err(|e| e.to_string()),
        Err(_) => Err("the tokenizer panicked".to_owned()),
    }
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
