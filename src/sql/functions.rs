//! The functions that turn texts into embeddings, and those about models and caches.

use leann_value::{Role, Value};
use pgrx::prelude::*;

use crate::error::{Error, OrRaise, Result};
use crate::guc;
use crate::model;
use crate::pg::rights;
use crate::pg::{allocator, interrupts};
use crate::value::{Embedding, Text, hex};

/// Maximum texts that `leann.embed_all` embeds together: enough to keep all threads busy, few enough that a
/// LIMIT or a canceled query wastes little.
const MAX_BATCH_TEXTS: usize = 256;

/// Returns the text of a row, which is embedded when its vector is needed: `embedding_of(text)`.
#[pg_extern(sql = false)]
fn embedding_of(text: Text) -> Embedding {
    Embedding(Value::Deferred { text: text.0, role: Role::Passage, model: None })
}

/// Returns the text of a row that the named model is to embed: `embedding_of(text, model)`.
#[pg_extern(sql = false)]
fn embedding_of_model(text: Text, model: Text) -> Embedding {
    model::require_name(&model.0).or_raise();
    Embedding(Value::Deferred { text: text.0, role: Role::Passage, model: Some(model.0) })
}

/// Embeds a text: `leann.embed(text, model, role)`.
#[pg_extern(sql = false)]
fn leann_embed_text(text: Option<Text>, model: Option<Text>, role: Option<Text>) -> Option<Vec<f32>> {
    let text = text?.0;
    let embeddings = parse_role(role).and_then(|role| model::embed(&model_or_default(model), role, &[&text]));
    Some(embeddings.or_raise()[0].to_vec())
}

/// Returns a row for each element of an array of texts, in order, NULL for a NULL:
/// `leann.embed_all(texts, model, role)`.
#[pg_extern(sql = false)]
fn leann_embed_all(
    texts: Option<Array<'_, &[u8]>>,
    model: Option<Text>,
    role: Option<Text>,
) -> SetOfIterator<'static, Option<Vec<f32>>> {
    let mut copies: Vec<Option<String>> = Vec::new();
    if let Some(texts) = texts {
        allocator::reserve(&mut copies, texts.len(), "the texts of an array");
        copies.extend(texts.iter().map(|text| {
            interrupts::check();
            text.map(|bytes| {
                allocator::expect_copy(2 * bytes.len());
                crate::encoding::utf8(bytes).into_owned()
            })
        }));
    }
    let texts = copies;
    let role = parse_role(role).or_raise();
    let model = model_or_default(model);
    let mut embedded: Vec<Option<Vec<f32>>> = Vec::new();
    let mut next = 0;
    SetOfIterator::new(std::iter::from_fn(move || {
        if next % MAX_BATCH_TEXTS == 0 {
            let batch = &texts[next..texts.len().min(next + MAX_BATCH_TEXTS)];
            embedded = embed_batch(&model, role, batch).or_raise();
        }
        let embedding = embedded.get_mut(next % MAX_BATCH_TEXTS)?.take();
        next += 1;
        Some(embedding)
    }))
}

/// Embeds texts; a missing text has no embedding.
fn embed_batch(model: &str, role: Role, texts: &[Option<String>]) -> Result<Vec<Option<Vec<f32>>>> {
    let present: Vec<&str> = texts.iter().flatten().map(String::as_str).collect();
    if present.is_empty() {
        return Ok(vec![None; texts.len()]);
    }
    let mut embeddings = model::embed(model, role, &present)?.into_iter();
    Ok(texts
        .iter()
        .map(|text| text.as_ref().and_then(|_| embeddings.next()).map(|embedding| embedding.to_vec()))
        .collect())
}

fn model_or_default(model: Option<Text>) -> String {
    model.map_or_else(model::default_name, |model| model.0)
}

fn parse_role(role: Option<Text>) -> Result<Role> {
    match role.as_ref().map_or("passage", |role| role.0.as_str()) {
        "passage" => Ok(Role::Passage),
        "query" => Ok(Role::Query),
        other => Err(Error::invalid(format!("\"{other}\" is not a role of a text"))
            .hint("The roles are \"passage\" and \"query\".")),
    }
}

/// Returns the rows of the view `leann.models`.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn leann_list_models() -> TableIterator<
    'static,
    (
        name!(name, Text),
        name!(dimensions, Option<i32>),
        name!(max_tokens, Option<i32>),
        name!(pooling, Option<&'static str>),
        name!(normalized, Option<bool>),
        name!(query_prompt, Option<Text>),
        name!(passage_prompt, Option<Text>),
        name!(fingerprint, Option<String>),
        name!(error, Option<Text>),
    ),
> {
    let as_i32 = |number: Option<usize>| number.map(|number| i32::try_from(number).unwrap_or(i32::MAX));
    TableIterator::new(model::list().or_raise().into_iter().map(move |model| {
        (
            Text::listed(model.name),
            as_i32(model.dimensions),
            as_i32(model.max_tokens),
            model.pooling,
            model.normalized,
            model.query_prompt.map(Text::listed),
            model.passage_prompt.map(Text::listed),
            model.fingerprint.map(|fingerprint| hex(&fingerprint)),
            model.error.map(Text::listed),
        )
    }))
}

/// Clears the session's cache, and for a superuser also the server's: `leann.clear_cache()`.
#[pg_extern(sql = false)]
fn leann_clear_cache() {
    model::clear_cache();
    // SAFETY: reads the catalogs.
    if unsafe { pg_sys::superuser() } {
        model::shared::clear();
    }
}

/// Returns the rows of the view `leann.cache`: the session's cache and, if the library is preloaded, the
/// server's. Shows what all users together have embedded only to users who may read all statistics.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn leann_caches() -> TableIterator<
    'static,
    (
        name!(scope, &'static str),
        name!(limit_bytes, i64),
        name!(bytes, Option<i64>),
        name!(lookups, Option<i64>),
        name!(hits, Option<i64>),
    ),
> {
    let (bytes, lookups, hits) = model::cache_statistics();
    let session =
        ("session", guc::cache_bytes() as i64, Some(bytes as i64), Some(lookups as i64), Some(hits as i64));
    let all = rights::reads_all_statistics();
    let server = model::shared::statistics().map(|server| {
        let for_some = |number: u64| all.then_some(number as i64);
        let limit = server.limit_bytes as i64;
        ("server", limit, for_some(server.bytes as u64), for_some(server.lookups), for_some(server.hits))
    });
    TableIterator::new(std::iter::once(session).chain(server))
}
