//! leann: a Postgres index access method that searches text by meaning without storing embeddings.
//!
//! This package is the only one that knows Postgres; the algorithms are in `crates/`.

mod am;
mod error;
mod guc;
mod model;
mod pg;
mod session;
mod sql;
mod stats;

use pgrx::prelude::*;

pgrx::pg_module_magic!(name, version);

/// An allocation that fails ends a statement, not the server: see `pg::memory`.
#[global_allocator]
static ALLOCATOR: pg::memory::WithReserve = pg::memory::WithReserve;

pgrx::extension_sql_file!("../sql/leann.sql", name = "leann");
pgrx::extension_sql_file!("../sql/leann_am.sql", name = "leann_am", requires = ["leann"]);
pgrx::extension_sql_file!("../sql/leann_introspect.sql", name = "leann_introspect", requires = ["leann"]);

/// Postgres calls this when it loads the library. Settings only: no model, no thread, no file is touched, since under
/// `shared_preload_libraries` this is the postmaster, and every backend would inherit what is made here.
#[pg_guard]
pub extern "C-unwind" fn _PG_init() {
    guc::register();
    am::options::register();
    pg::only_index::register();
    session::register();
    if pg::shmem::preloading() {
        model::shared::ask_for_memory();
    }
}

#[cfg(any(test, feature = "pg_test"))]
#[path = "../pgrx-tests/distances.rs"]
mod distances_tests;
#[cfg(any(test, feature = "pg_test"))]
#[path = "../pgrx-tests/embedding_type.rs"]
mod embedding_type_tests;
#[cfg(any(test, feature = "pg_test"))]
#[path = "../pgrx-tests/models.rs"]
mod models_tests;
#[cfg(any(test, feature = "pg_test"))]
#[path = "../pgrx-tests/recall.rs"]
mod recall_tests;
#[cfg(any(test, feature = "pg_test"))]
#[path = "../pgrx-tests/support.rs"]
mod support;

/// What `cargo pgrx test` asks a crate for before it starts its server.
#[cfg(test)]
pub mod pg_test {
    pub fn setup(_options: Vec<&str>) {}

    #[must_use]
    pub fn postgresql_conf_options() -> Vec<&'static str> {
        crate::support::postgresql_conf_options()
    }
}
