//! What the access method tells users when something is wrong, each with its SQLSTATE and a hint.

use crate::error::Error;
use crate::pg::encoding;
use pgrx::PgLogLevel;
use pgrx::pg_sys;
use pgrx::pg_sys::errcodes::PgSqlErrorCode;
use pgrx::pg_sys::panic::ErrorReport;

/// A page or chain of the index is damaged.
pub fn raise_corrupted(index: &str, block: u32, what: &str) -> ! {
    Error::new(
        PgSqlErrorCode::ERRCODE_INDEX_CORRUPTED,
        format!("index \"{index}\" is damaged at block {block}: {what}"),
    )
    .hint(format!("The table is not affected. Rebuild the index: REINDEX INDEX {index};"))
    .raise()
}

/// The index was written by a release of leann with another page format.
pub fn raise_other_format(index: &str, found: u8, supported: u8) -> ! {
    Error::new(
        PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!("index \"{index}\" is in format {found}, and this release of leann reads format {supported}"),
    )
    .detail("Another release of leann wrote it.")
    .hint(format!("Install that release again, or rebuild the index: REINDEX INDEX {index};"))
    .raise()
}

/// A node's heap pointer leads beyond the end of the table.
pub fn raise_bad_pointer(index: &str, pointer: leann_page::HeapPointer) -> ! {
    let leann_page::HeapPointer { block, offset } = pointer;
    Error::new(
        PgSqlErrorCode::ERRCODE_INDEX_CORRUPTED,
        format!(
            "index \"{index}\" is damaged: heap pointer ({block},{offset}) leads beyond the end of the table"
        ),
    )
    .hint(format!("The table is not affected. Rebuild the index: REINDEX INDEX {index};"))
    .raise()
}

/// A fault of ours, or a call that the server does not make.
pub fn raise_internal(message: impl Into<String>) -> ! {
    Error::new(PgSqlErrorCode::ERRCODE_INTERNAL_ERROR, message).raise()
}

/// The system starts no thread for us.
pub fn raise_no_threads(reason: &str) -> ! {
    Error::new(
        PgSqlErrorCode::ERRCODE_INSUFFICIENT_RESOURCES,
        format!("could not start worker threads: {reason}"),
    )
    .hint("Lower leann.threads, or allow the server's user more processes and memory.")
    .raise()
}

/// The model's folder holds other weights or settings than the index was built with.
pub fn raise_fingerprint_mismatch(index: &str, model: &str) -> ! {
    Error::new(
        PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!("model \"{model}\" is not the one that index \"{index}\" was built with"),
    )
    .detail("The fingerprint of the installed model's weights, tokenizer and settings is another one.")
    .hint(format!("Install the former model again, or rebuild the index: REINDEX INDEX {index};"))
    .raise()
}

pub fn raise_wrong_dimension(index: &str, found: usize, expected: usize) -> ! {
    wrong_dimension(index, found, expected).raise()
}

/// A vector of a dimension other than the model's.
pub fn wrong_dimension(index: &str, found: usize, expected: usize) -> Error {
    Error::new(
        PgSqlErrorCode::ERRCODE_DATA_EXCEPTION,
        format!("expected a vector of {expected} dimensions, not {found}"),
    )
    .detail(format!("The model of index \"{index}\" makes vectors of {expected} dimensions."))
    .hint("Give a vector made by the same model, or the text itself.")
}

pub fn raise_model_mismatch(index: &str, model: &str, other: &str) -> ! {
    model_mismatch(index, model, other).raise()
}

/// A value or query that names a model other than the index's.
pub fn model_mismatch(index: &str, model: &str, other: &str) -> Error {
    Error::new(
        PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
        format!("index \"{index}\" is of model \"{model}\", not \"{other}\""),
    )
    .hint("Distances between embeddings of different models mean nothing; name the same model on both sides.")
}

/// The session's default model is not the one that was the default when the index was made.
pub fn raise_default_model(index: &str, model: &str, default: &str) -> ! {
    Error::new(
        PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!("index \"{index}\" is of model \"{model}\", but leann.default_model is \"{default}\""),
    )
    .hint(format!("SET leann.default_model = '{model}', or rebuild the index with the new default."))
    .raise()
}

/// A new index whose expression names no model.
pub fn notice_default_model(index: &str, model: &str) {
    notice(
        format!("index \"{index}\" takes the default model \"{model}\", because its expression names none"),
        format!(
            "Built anew, as by REINDEX, TRUNCATE or a restore, it takes what leann.default_model is then. To keep it to this model, name it: embedding_of(..., '{model}')."
        ),
    );
}

/// A build met texts that are longer than the model reads.
pub fn notice_truncated(index: &str, cut: usize, rows: usize, model: &str, tokens: usize) {
    notice(
        format!(
            "{cut} of {rows} rows of index \"{index}\" are longer than model \"{model}\" reads ({tokens} tokens); the rest of each was not embedded"
        ),
        "A search finds such a row by its beginning only. Split longer texts into several rows.".to_owned(),
    );
}

fn notice(message: String, hint: String) {
    ErrorReport::new(PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION, encoding::message(message), "leann")
        .set_hint(encoding::message(hint))
        .report(PgLogLevel::NOTICE);
}

/// CREATE INDEX on a text column.
pub fn raise_text_column(table: &str, column: &str) -> ! {
    Error::new(
        PgSqlErrorCode::ERRCODE_WRONG_OBJECT_TYPE,
        "the access method leann does not index text itself, but its embedding",
    )
    .hint(format!("CREATE INDEX ON {table} USING leann (embedding_of({column}));"))
    .raise()
}

/// CREATE INDEX on a table of another access method.
pub fn raise_not_a_heap(index: &str, table: &str) -> ! {
    Error::new(
        PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
        format!("index \"{index}\" cannot be made: table \"{table}\" is not stored as a heap"),
    )
    .detail("leann indexes tables of the access method heap only.")
    .raise()
}

/// CREATE INDEX with `store = float16` on a model of very many dimensions.
pub fn raise_too_large_to_store(index: &str, model: &str, dim: usize) -> ! {
    Error::new(
        PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
        format!("index \"{index}\" cannot store embeddings of {dim} dimensions, those of model \"{model}\""),
    )
    .detail("Two of them must fit on a page.")
    .hint("Leave out the option store: the index then recomputes embeddings.")
    .raise()
}

/// The object is no index of this access method.
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
