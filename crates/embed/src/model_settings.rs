//! Gathers the settings of a model from the files of a sentence-transformers folder.
//!
//! Names and defaults are those of sentence-transformers and transformers, with one exception: there is no
//! default for the pooling, because a model pooled in another way than it was trained with still seems to
//! work. A file that exists and cannot be read is an error, never a default. `leann.json`, if it exists,
//! overrides the other files:
//!
//! ```json
//! {
//!   "model_file": "onnx/model.onnx",
//!   "pooling": "mean",            // or "cls", "last_token"
//!   "max_tokens": 256,
//!   "query_prompt": "query: ",
//!   "passage_prompt": "passage: ",
//!   "lower_case": false,          // lower-case a text before it reaches the tokenizer
//!   "output": "last_hidden_state",
//!   "one_row_per_run": false      // for models whose vectors depend on the rows they share a run with
//! }
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::EmbedError;
use crate::folder::Folder;

/// How the vectors of a text's tokens become one vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pooling {
    /// The mean over the tokens, special ones included.
    Mean,
    /// The vector of the first token.
    Cls,
    /// The vector of the last token.
    LastToken,
}

/// The settings that decide, together with the weights and the tokenizer, which vector a text gets. They are
/// a part of the model's fingerprint in serialized form: a new or renamed field changes every fingerprint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ModelSettings {
    /// None if no file names one. The ONNX file itself has to give a vector for each text then.
    pub pooling: Option<Pooling>,
    pub max_tokens: usize,
    pub query_prompt: String,
    pub passage_prompt: String,
    pub lower_case: bool,
    pub output: Option<String>,
    pub one_row_per_run: bool,
    /// The padding token that the encoder's settings name. Some models find a token's position by it.
    pub pad_token: Option<u32>,
}

/// Everything that the settings files say.
#[derive(Clone, Debug)]
pub struct Gathered {
    pub settings: ModelSettings,
    /// The ONNX file that `leann.json` names.
    pub model_file: Option<PathBuf>,
    /// What `leann.json` says, which overrides what the ONNX file shows.
    pub one_row_per_run: Option<bool>,
    /// Whether `modules.json` scales vectors to unit length.
    pub normalizes: bool,
    /// A step after the encoder that this crate does not know. The model is usable only if its ONNX file
    /// contains it.
    pub extra_step: Option<String>,
    /// Number of components of a vector.
    pub dim: Option<usize>,
}

/// The content of `leann.json`.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Overrides {
    model_file: Option<PathBuf>,
    pooling: Option<Pooling>,
    max_tokens: Option<usize>,
    query_prompt: Option<String>,
    passage_prompt: Option<String>,
    lower_case: Option<bool>,
    output: Option<String>,
    one_row_per_run: Option<bool>,
}

/// An entry of `modules.json`.
#[derive(Deserialize)]
struct Module {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    path: String,
}

/// The content of `1_Pooling/config.json`.
#[derive(Deserialize, Default)]
struct PoolingConfig {
    word_embedding_dimension: Option<usize>,
    /// Newer files name the mode. Older ones have a flag for each mode.
    pooling_mode: Option<PoolingModes>,
    #[serde(default)]
    pooling_mode_cls_token: bool,
    #[serde(default)]
    pooling_mode_mean_tokens: bool,
    #[serde(default)]
    pooling_mode_lasttoken: bool,
    #[serde(default)]
    pooling_mode_max_tokens: bool,
    #[serde(default)]
    pooling_mode_mean_sqrt_len_tokens: bool,
    #[serde(default)]
    pooling_mode_weightedmean_tokens: bool,
    include_prompt: Option<bool>,
}

/// The value of `pooling_mode`: a name or a list of names.
#[derive(Deserialize)]
#[serde(untagged)]
enum PoolingModes {
    One(String),
    Several(Vec<String>),
}

/// The content of one of [`SENTENCE_CONFIGS`].
#[derive(Deserialize, Default)]
struct SentenceConfig {
    max_seq_length: Option<f64>,
    do_lower_case: Option<bool>,
}

/// The content of `config_sentence_transformers.json`.
#[derive(Deserialize, Default)]
struct Prompts {
    #[serde(default)]
    prompts: BTreeMap<String, Option<String>>,
    default_prompt_name: Option<String>,
}

/// The content of `config.json`.
#[derive(Deserialize, Default)]
struct EncoderConfig {
    model_type: Option<String>,
    hidden_size: Option<usize>,
    max_position_embeddings: Option<f64>,
    pad_token_id: Option<u32>,
}

/// The content of `tokenizer_config.json`.
#[derive(Deserialize, Default)]
struct TokenizerConfig {
    /// Often 1e30, which means unknown.
    model_max_length: Option<f64>,
}

/// The files in which sentence-transformers looks for the settings of the encoder module, in its order.
const SENTENCE_CONFIGS: [&str; 7] = [
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_camembert_config.json",
    "sentence_albert_config.json",
    "sentence_xlm-roberta_config.json",
    "sentence_xlnet_config.json",
];
/// Maximum length of a text in tokens where no file gives one.
const DEFAULT_MAX_TOKENS: usize = 512;
/// Largest `max_tokens` that is accepted, more than any published model has.
const LARGEST_MAX_TOKENS: usize = 32_768;

/// Reads every settings file. `name` is the model's name for error messages.
///
/// `ModelFile` for a file that cannot be read; `Unsupported` for settings that this crate cannot follow.
pub fn gather(folder: &Folder, name: &str) -> Result<Gathered, EmbedError> {
    let unsupported = |reason: String| EmbedError::Unsupported { model: name.to_owned(), reason };
    let overrides: Overrides = folder.json(Path::new("leann.json"))?.unwrap_or_default();
    let encoder: EncoderConfig = folder.json(Path::new("config.json"))?.unwrap_or_default();
    let sentence = sentence_config(folder)?;
    let tokenizer: TokenizerConfig = folder.json(Path::new("tokenizer_config.json"))?.unwrap_or_default();
    let modules = Modules::read(folder)?;
    let pooling_config: PoolingConfig = match &modules.pooling_file {
        Some(file) => folder.json(file)?.unwrap_or_default(),
        None => PoolingConfig::default(),
    };
    let pooling = match overrides.pooling {
        Some(pooling) => Some(pooling),
        None => pooling_mode(&pooling_config).map_err(|e| unsupported(e.to_string()))?,
    };
    let prompts: Prompts = folder.json(Path::new("config_sentence_transformers.json"))?.unwrap_or_default();
    let max_tokens = match overrides.max_tokens {
        Some(tokens) => tokens,
        None => max_tokens(&tokenizer, &sentence, &encoder),
    };
    if !(1..=LARGEST_MAX_TOKENS).contains(&max_tokens) {
        return Err(unsupported(format!(
            "its maximum of {max_tokens} tokens is not between 1 and {LARGEST_MAX_TOKENS}"
        )));
    }
    let settings = ModelSettings {
        pooling,
        max_tokens,
        query_prompt: overrides.query_prompt.unwrap_or_else(|| prompts.first_of(&["query"])),
        passage_prompt: overrides
            .passage_prompt
            .unwrap_or_else(|| prompts.first_of(&["document", "passage", "corpus"])),
        lower_case: overrides.lower_case.or(sentence.do_lower_case).unwrap_or(false),
        output: overrides.output,
        one_row_per_run: overrides.one_row_per_run.unwrap_or(false),
        pad_token: encoder.pad_token_id,
    };
    Ok(Gathered {
        settings,
        model_file: overrides.model_file,
        one_row_per_run: overrides.one_row_per_run,
        normalizes: modules.normalizes,
        // A step after the pooling may change the dimension.
        dim: match modules.extra_step {
            Some(_) => None,
            None => pooling_config.word_embedding_dimension.or(encoder.hidden_size),
        },
        extra_step: modules.extra_step,
    })
}

/// Reads the first of [`SENTENCE_CONFIGS`] that exists.
fn sentence_config(folder: &Folder) -> Result<SentenceConfig, EmbedError> {
    for file in SENTENCE_CONFIGS {
        if let Some(config) = folder.json(Path::new(file))? {
            return Ok(config);
        }
    }
    Ok(SentenceConfig::default())
}

/// What `modules.json` lists. Without that file, an encoder and the pooling of `1_Pooling`, if that exists.
struct Modules {
    pooling_file: Option<PathBuf>,
    normalizes: bool,
    extra_step: Option<String>,
}

impl Modules {
    fn read(folder: &Folder) -> Result<Modules, EmbedError> {
        let listed: Option<Vec<Module>> = folder.json(Path::new("modules.json"))?;
        let mut modules = Modules {
            pooling_file: listed.is_none().then(|| PathBuf::from("1_Pooling/config.json")),
            normalizes: false,
            extra_step: None,
        };
        for module in listed.unwrap_or_default() {
            // As in "sentence_transformers.models.Pooling". The path before the class name has changed over
            // time.
            match module.kind.rsplit('.').next().unwrap_or_default() {
                "Transformer" | "Dropout" => {}
                "Pooling" => modules.pooling_file = Some(Path::new(&module.path).join("config.json")),
                "Normalize" => modules.normalizes = true,
                _ => modules.extra_step = Some(module.kind),
            }
        }
        Ok(modules)
    }
}

/// Why this crate cannot pool as a model's files say. The messages complete "model "x" is not supported:
/// ...".
#[derive(Debug, thiserror::Error)]
enum PoolingError {
    #[error("its pooling leaves out the prompt")]
    WithoutPrompt,
    /// The names of the modes, joined.
    #[error("its pooling is \"{0}\", not mean, cls or last token")]
    Unknown(String),
}

/// Returns None if the file says nothing about it.
fn pooling_mode(config: &PoolingConfig) -> Result<Option<Pooling>, PoolingError> {
    if config.include_prompt == Some(false) {
        return Err(PoolingError::WithoutPrompt);
    }
    let flags = [
        (config.pooling_mode_mean_tokens, "mean"),
        (config.pooling_mode_cls_token, "cls"),
        (config.pooling_mode_lasttoken, "lasttoken"),
        (config.pooling_mode_max_tokens, "max"),
        (config.pooling_mode_mean_sqrt_len_tokens, "mean_sqrt_len_tokens"),
        (config.pooling_mode_weightedmean_tokens, "weightedmean"),
    ];
    let names: Vec<&str> = match &config.pooling_mode {
        Some(PoolingModes::One(name)) => vec![name],
        Some(PoolingModes::Several(names)) => names.iter().map(String::as_str).collect(),
        None => flags.iter().filter(|flag| flag.0).map(|flag| flag.1).collect(),
    };
    match names[..] {
        [] => Ok(None),
        ["mean"] => Ok(Some(Pooling::Mean)),
        ["cls"] => Ok(Some(Pooling::Cls)),
        ["lasttoken"] => Ok(Some(Pooling::LastToken)),
        _ => Err(PoolingError::Unknown(names.join("\" and \""))),
    }
}

/// Returns the maximum length of a text by the rule of sentence-transformers: the one that is set, or else
/// the smallest that the tokenizer and the encoder can take.
fn max_tokens(tokenizer: &TokenizerConfig, sentence: &SentenceConfig, encoder: &EncoderConfig) -> usize {
    if let Some(set) = sentence.max_seq_length {
        return whole(set);
    }
    // RoBERTa and its relatives count positions from the padding token's id plus one.
    let counts_from_two = encoder
        .model_type
        .as_deref()
        .is_some_and(|kind| ["roberta", "camembert", "mpnet"].iter().any(|kin| kind.contains(kin)));
    let positions = encoder.max_position_embeddings.map(|n| n - if counts_from_two { 2.0 } else { 0.0 });
    let known = [tokenizer.model_max_length, positions];
    let least = known.into_iter().flatten().map(whole).filter(|&n| n <= LARGEST_MAX_TOKENS).min();
    least.unwrap_or(DEFAULT_MAX_TOKENS)
}

/// Converts a number from a settings file, which may be anything, to the nearest `usize`; NaN to 0.
fn whole(number: f64) -> usize {
    number as usize
}

impl Prompts {
    /// Returns the first prompt that has one of these names or the default name, or an empty one.
    fn first_of(&self, names: &[&str]) -> String {
        let named = names.iter().copied().chain(self.default_prompt_name.as_deref());
        let found = named.filter_map(|name| self.prompts.get(name)).next();
        found.cloned().flatten().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gathers the settings of a folder with these files.
    fn gathered(files: &[(&str, &str)]) -> Result<Gathered, EmbedError> {
        let dir = tempfile::tempdir().unwrap();
        for (name, content) in files {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        gather(&Folder::open(dir.path()).unwrap(), "m")
    }

    #[test]
    fn defaults_are_those_of_sentence_transformers() {
        let found = gathered(&[]).unwrap();
        let expected = ModelSettings {
            pooling: None,
            max_tokens: 512,
            query_prompt: String::new(),
            passage_prompt: String::new(),
            lower_case: false,
            output: None,
            one_row_per_run: false,
            pad_token: None,
        };
        assert_eq!(found.settings, expected);
        assert!(!found.normalizes && found.dim.is_none() && found.extra_step.is_none());
    }

    #[test]
    fn every_file_is_heard() {
        let files = [
            (
                "modules.json",
                r#"[{"idx":0,"name":"0","path":"","type":"sentence_transformers.models.Transformer"},
                    {"idx":1,"name":"1","path":"pool","type":"sentence_transformers.models.Pooling"},
                    {"idx":2,"name":"2","path":"2_N","type":"sentence_transformers.models.Normalize"}]"#,
            ),
            ("pool/config.json", r#"{"word_embedding_dimension": 32, "pooling_mode_cls_token": true}"#),
            ("config.json", r#"{"hidden_size": 48, "pad_token_id": 1}"#),
            ("sentence_bert_config.json", r#"{"max_seq_length": 200, "do_lower_case": true}"#),
            (
                "config_sentence_transformers.json",
                r#"{"prompts": {"query": "find: ", "passage": "text: "}, "default_prompt_name": null}"#,
            ),
        ];
        let found = gathered(&files).unwrap();
        assert_eq!(found.settings.pooling, Some(Pooling::Cls));
        assert_eq!(found.settings.max_tokens, 200);
        assert_eq!(found.settings.query_prompt, "find: ");
        assert_eq!(found.settings.passage_prompt, "text: ");
        assert!(found.settings.lower_case && found.normalizes);
        assert_eq!((found.dim, found.settings.pad_token), (Some(32), Some(1)));

        let overrides = r#"{"model_file": "x/y.onnx", "pooling": "last_token", "max_tokens": 7,
            "query_prompt": "", "passage_prompt": "p", "lower_case": false, "output": "o",
            "one_row_per_run": true}"#;
        let mut files = files.to_vec();
        files.push(("leann.json", overrides));
        let found = gathered(&files).unwrap();
        let expected = ModelSettings {
            pooling: Some(Pooling::LastToken),
            max_tokens: 7,
            query_prompt: String::new(),
            passage_prompt: "p".to_owned(),
            lower_case: false,
            output: Some("o".to_owned()),
            one_row_per_run: true,
            pad_token: Some(1),
        };
        assert_eq!(found.settings, expected);
        assert_eq!(found.model_file.as_deref(), Some(Path::new("x/y.onnx")));
    }

    #[test]
    fn pooling_modes() {
        let of = |config: &str| gathered(&[("1_Pooling/config.json", config)]).map(|g| g.settings.pooling);
        assert_eq!(of(r#"{"pooling_mode_lasttoken": true}"#).unwrap(), Some(Pooling::LastToken));
        assert_eq!(of(r#"{"pooling_mode": "cls"}"#).unwrap(), Some(Pooling::Cls));
        assert_eq!(of(r#"{"pooling_mode": ["mean"]}"#).unwrap(), Some(Pooling::Mean));
        // What is not said is not guessed.
        assert_eq!(of(r#"{"word_embedding_dimension": 8}"#).unwrap(), None);
        assert_eq!(of(r#"{"pooling_mode_mean_tokens": false}"#).unwrap(), None);
        for refused in [
            r#"{"pooling_mode_max_tokens": true}"#,
            r#"{"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": true}"#,
            r#"{"pooling_mode": "weightedmean"}"#,
            r#"{"pooling_mode_mean_tokens": true, "include_prompt": false}"#,
        ] {
            assert!(matches!(of(refused), Err(EmbedError::Unsupported { .. })), "{refused}");
        }
    }

    #[test]
    fn modules_without_pooling_have_none() {
        let modules = r#"[{"type": "sentence_transformers.models.Transformer"}]"#;
        let left_over = ("1_Pooling/config.json", r#"{"pooling_mode_mean_tokens": true}"#);
        assert_eq!(gathered(&[left_over]).unwrap().settings.pooling, Some(Pooling::Mean));
        assert_eq!(gathered(&[left_over, ("modules.json", modules)]).unwrap().settings.pooling, None);
    }

    #[test]
    fn prompts_fall_back_to_the_default_one() {
        let config =
            r#"{"prompts": {"clustering": "c: ", "document": "d: "}, "default_prompt_name": "clustering"}"#;
        let settings = gathered(&[("config_sentence_transformers.json", config)]).unwrap().settings;
        assert_eq!((settings.query_prompt.as_str(), settings.passage_prompt.as_str()), ("c: ", "d: "));
    }

    #[test]
    fn the_longest_text_is_found() {
        let tokens = |files: &[(&str, &str)]| gathered(files).unwrap().settings.max_tokens;
        let roberta = ("config.json", r#"{"model_type": "xlm-roberta", "max_position_embeddings": 514}"#);
        assert_eq!(tokens(&[roberta]), 512);
        assert_eq!(
            tokens(&[("config.json", r#"{"model_type": "bert", "max_position_embeddings": 514}"#)]),
            514
        );
        assert_eq!(tokens(&[roberta, ("tokenizer_config.json", r#"{"model_max_length": 128}"#)]), 128);
        assert_eq!(tokens(&[("tokenizer_config.json", r#"{"model_max_length": 1e30}"#)]), 512);
        for set in ["0", "-1", "1e30"] {
            let file = ("sentence_bert_config.json", format!(r#"{{"max_seq_length": {set}}}"#));
            assert!(matches!(gathered(&[(file.0, &file.1)]), Err(EmbedError::Unsupported { .. })), "{set}");
        }
    }

    #[test]
    fn a_step_behind_the_pooling_is_remembered() {
        let modules = r#"[{"type": "sentence_transformers.models.Transformer"},
            {"type": "sentence_transformers.models.Pooling", "path": "1_Pooling"},
            {"type": "sentence_transformers.models.Dense", "path": "2_Dense"}]"#;
        let pooling = r#"{"word_embedding_dimension": 768, "pooling_mode_mean_tokens": true}"#;
        let found = gathered(&[("modules.json", modules), ("1_Pooling/config.json", pooling)]).unwrap();
        assert_eq!(found.extra_step.as_deref(), Some("sentence_transformers.models.Dense"));
        assert_eq!(found.dim, None);
    }

    #[test]
    fn a_bad_file_is_named() {
        for (name, content) in [
            ("config.json", "{"),
            ("modules.json", "{}"),
            ("leann.json", r#"{"pooling": "max"}"#),
            ("leann.json", r#"{"query_promt": ""}"#),
            ("sentence_bert_config.json", r#"{"max_seq_length": "long"}"#),
            ("tokenizer_config.json", "["),
            ("config_sentence_transformers.json", ""),
            ("1_Pooling/config.json", "mean"),
        ] {
            // Also where another file says what this one is read for.
            let error = gathered(&[("config.json", "{}"), (name, content)]).unwrap_err();
            assert!(matches!(&error, EmbedError::ModelFile { path, .. } if path.ends_with(name)), "{error}");
        }
        let outside = r#"[{"type": "x.Pooling", "path": "../elsewhere"}]"#;
        let error = gathered(&[("modules.json", outside)]).unwrap_err();
        assert!(error.to_string().contains("outside"), "{error}");
    }
}
