//! leann: a Postgres index access method that searches text by meaning without storing embeddings.
//!
//! This package is the only one that knows Postgres; the algorithms are in `crates/`.

mod am;
mod encoding;
mod error;
mod guc;
mod model;
mod pg;
mod session;
mod sql;
mod value;

use pgrx::prelude::*;

pgrx::pg_module_magic!(name, version);

/// Makes a failed allocation end a statement, not the server: see `pg::allocator`.
#[global_allocator]
static ALLOCATOR: pg::allocator::WithReserve = pg::allocator::WithReserve;

pgrx::extension_sql_file!("../sql/leann.sql", name = "leann");
pgrx::extension_sql_file!("../sql/leann_am.sql", name = "leann_am", requires = ["leann"]);
pgrx::extension_sql_file!("../sql/leann_introspect.sql", name = "leann_introspect", requires = ["leann"]);

/// Called by Postgres when it loads the library. It only defines settings and installs hooks, and touches no
/// model, thread or file: under `shared_preload_libraries` this is the postmaster, and every backend would
/// inherit what is made here.
#[pg_guard]
pub extern "C-unwind" fn _PG_init() {
    guc::register();
    am::options::register();
    pg::hide_indexes::register();
    pg::old_row::register();
    pg::scan_node::register(am::merge_append::adopt);
    am::paths::register();
    #[cfg(feature = "pg18")]
    am::explain::register();
    session::register();
    if guc::preloading() {
        am::stat_indexes::request_memory();
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

/// The functions that `cargo pgrx test` calls before it starts its server.
#[cfg(test)]
pub mod pg_test {
    /// Prepares nothing.
    pub fn setup(_options: Vec<&str>) {}

    /// Returns the settings that the tests' server needs.
    #[must_use]
    pub fn postgresql_conf_options() -> Vec<&'static str> {
        crate::support::postgresql_conf_options()
    }
}
