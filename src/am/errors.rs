//! Errors and notices of the access method, each with its SQLSTATE and a hint.

use super::stats::{Question, ScanStats};
use crate::encoding;
use crate::error::{Error, notice};
use crate::model::Loaded;
use crate::pg::Rel;
use leann_value::Value;
use pgrx::pg_sys;
use pgrx::pg_sys::errcodes::PgSqlErrorCode;

/// Reports that a page or chain of the index is damaged.
pub fn raise_corrupted(index: &str, block: u32, what: &str) -> ! {
    Error::new(
        PgSqlErrorCode::ERRCODE_INDEX_CORRUPTED,
        format!("index \"{index}\" is damaged at block {block}: {what}"),
    )
    .hint(format!("The table is not affected. Rebuild the index: REINDEX INDEX {index};"))
    .raise()
}

/// Reports that a release of leann with another page format wrote the index.
pub fn raise_other_format(index: &str, found: u8, supported: u8) -> ! {
    Error::new(
        PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!("index \"{index}\" is in format {found}, but this release of leann reads format {supported}"),
    )
    .detail("Another release of leann wrote it.")
    .hint(format!("Install that release again, or rebuild the index: REINDEX INDEX {index};"))
    .raise()
}

/// Reports that a node's heap pointer leads beyond the end of the table.
pub fn raise_bad_pointer(index: &str, pointer: leann_page::HeapPointer) -> ! {
    let leann_page::HeapPointer { block, offset } = pointer;
    Error::new(
        PgSqlErrorCode::ERRCODE_INDEX_CORRUPTED,
        format!(
            "index \"{index}\" is damaged: heap pointer ({block},{offset}) points beyond the end of the table"
        ),
    )
    .hint(format!("The table is not affected. Rebuild the index: REINDEX INDEX {index};"))
    .raise()
}

/// Reports that the model's folder holds other weights or settings than the index was built with.
pub fn raise_fingerprint_mismatch(index: &str, model: &str) -> ! {
    Error::new(
        PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!("model \"{model}\" is not the one that index \"{index}\" was built with"),
    )
    .detail("The weights, tokenizer or settings of the installed model have another fingerprint.")
    .hint(format!("Reinstall the original model, or rebuild the index: REINDEX INDEX {index};"))
    .raise()
}

/// Returns the error for a value that the index's model cannot have: a vector of other dimensions, or a text
/// of another model. Looks up the name of the index only then.
pub fn foreign_value(index: Rel, model: &Loaded, value: &Value) -> Option<Error> {
    match value {
        Value::Dense(vector) if vector.len() != model.dim() => {
            let dim = model.dim();
            let error = Error::new(
                PgSqlErrorCode::ERRCODE_DATA_EXCEPTION,
                format!("expected a vector of {dim} dimensions, not {}", vector.len()),
            )
            .detail(format!("The model of index \"{}\" produces vectors of {dim} dimensions.", index.name()))
            .hint("Pass a vector from the same model, or the text itself.");
            Some(error)
        }
        Value::Deferred { model: Some(other), .. } if other != model.name() => {
            let error = Error::new(
                PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
                format!("index \"{}\" uses model \"{}\", not \"{other}\"", index.name(), model.name()),
            )
            .hint(concat!(
                "Distances between embeddings of different models are meaningless. ",
                "Name the same model on both sides."
            ));
            Some(error)
        }
        _ => None,
    }
}

/// Reports that the session's default model is not the one that was the default when the index was built.
pub fn raise_default_model(index: &str, model: &str, default: &str) -> ! {
    Error::new(
        PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!("index \"{index}\" uses model \"{model}\", but leann.default_model is \"{default}\""),
    )
    .hint(format!("SET leann.default_model = '{model}', or rebuild the index with the new default."))
    .raise()
}

/// Tells the user that the expression of a new index names no model.
pub fn notice_default_model(index: &str, model: &str) {
    notice(
        format!("index \"{index}\" uses the default model \"{model}\" because its expression names no model"),
        format!(
            "A rebuild, as by REINDEX, TRUNCATE or a restore, uses the value that leann.default_model has \
             then. To keep this model, name it: embedding_of(..., '{model}')."
        ),
    );
}

/// Tells the user that a build met texts that are longer than the model reads.
pub fn notice_truncated(index: &str, cut: usize, rows: usize, model: &str, tokens: usize) {
    notice(
        format!("model \"{model}\" truncated {cut} of {rows} rows of index \"{index}\" to {tokens} tokens"),
        "A search finds such a row only by its beginning. Split longer texts into several rows.".to_owned(),
    );
}

/// Tells the administrator in the log that an index is trained now.
pub fn log_trained(index: &str, rows: usize) {
    crate::error::log(
        format!("trained the sketch of index \"{index}\" on {rows} of its rows"),
        "Rows that come from now on take fewer recomputes. REINDEX does the same for those in the index.",
    );
}

/// Tells the administrator in the log what a vacuum found.
pub fn log_advice(index: &str, untrained: u64, nodes: u64, advice: &str) {
    let share = 100.0 * untrained as f64 / nodes.max(1) as f64;
    crate::error::log(
        format!("{share:.0} % of the rows of index \"{index}\" do not fit its sketch"),
        format!("{advice}. leann.index_info('{index}') tells more."),
    );
}

/// Refuses CREATE INDEX on a text column.
pub fn raise_text_column(table: &str, column: &str) -> ! {
    Error::new(
        PgSqlErrorCode::ERRCODE_WRONG_OBJECT_TYPE,
        "access method \"leann\" indexes embeddings, not text",
    )
    .hint(format!("CREATE INDEX ON {table} USING leann (embedding_of({column}));"))
    .raise()
}

/// Refuses CREATE INDEX on a table of another access method.
pub fn raise_not_a_heap(index: &str, table: &str) -> ! {
    Error::new(
        PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
        format!("cannot create index \"{index}\": table \"{table}\" does not use access method \"heap\""),
    )
    .detail("Access method \"leann\" indexes only tables that are stored as heaps.")
    .raise()
}

/// Refuses CREATE INDEX with `store = float16` for a model of too many dimensions.
pub fn raise_too_large_to_store(index: &str, model: &str, dim: usize) -> ! {
    Error::new(
        PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
        format!("index \"{index}\" cannot store the {dim}-dimensional embeddings of model \"{model}\""),
    )
    .detail("Two embeddings must fit on a page.")
    .hint("Omit the option store; the index then recomputes embeddings.")
    .raise()
}

/// Reports that an object is not an index of this access method.
pub fn raise_no_leann_index(oid: pg_sys::Oid) -> ! {
    // SAFETY: takes any oid; the name is a palloc'd C string or null.
    let name = unsafe {
        let name = pg_sys::get_rel_name(oid);
        if name.is_null() {
            oid.to_u32().to_string()
        } else {
            encoding::utf8_lossy(std::ffi::CStr::from_ptr(name).to_bytes()).into_owned()
        }
    };
    Error::new(PgSqlErrorCode::ERRCODE_WRONG_OBJECT_TYPE, format!("\"{name}\" is not a leann index")).raise()
}

/// Tells the administrator in the log what a slow scan did.
pub fn log_slow_scan(indexes: &[String], ms: f64, stats: &ScanStats, question: Question) {
    let of = match indexes {
        [index] => format!("index \"{index}\""),
        [first, others @ ..] => format!("index \"{first}\" and {} more", others.len()),
        [] => "no index".to_owned(),
    };
    let bound = question.bound.map_or_else(String::new, |bound| format!(", distance at most {bound}"));
    let ScanStats { pages, checked, recomputes, cache_hits, late, model_ms, walk_ms, .. } = stats;
    crate::error::log_detail(
        format!("duration: {ms:.3} ms  scan of {of}"),
        format!(
            "Rows wanted first: {}{bound}. Recomputes: {recomputes}, from caches: {cache_hits}, \
             rows checked by filters: {checked}, late rows: {late}, node pages: {pages}, \
             time in the model: {model_ms:.3} ms, in the walk: {walk_ms:.3} ms.",
            question.group_size
        ),
    );
}
