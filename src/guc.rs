//! The settings of the extension, as `pg_settings` shows them, and their values for the other modules.

use std::borrow::Cow;
use std::ffi::{CStr, CString, OsStr, c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::ptr;

use leann_graph::tuning;
use pgrx::prelude::*;
use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting, PostgresGucEnum};

use crate::encoding;

/// What a scan does with a row that turns out nearer than one already returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PostgresGucEnum)]
pub enum IterativeScan {
    #[name = c"strict_order"]
    StrictOrder,
    #[name = c"relaxed_order"]
    RelaxedOrder,
}

/// Where ONNX Runtime runs a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PostgresGucEnum)]
pub enum ExecutionProvider {
    #[name = c"cpu"]
    Cpu,
    #[name = c"cuda"]
    Cuda,
}

/// Default of leann.recompute_cost, in the planner's units: 25 ms, at 100 µs for reading a page.
const RECOMPUTE_COST: f64 = 250.0;

static EF_SEARCH: GucSetting<i32> = GucSetting::<i32>::new(tuning::DEFAULT_EF_SEARCH as i32);
static PATIENCE: GucSetting<i32> = GucSetting::<i32>::new(0);
static RERANK_Z: GucSetting<f64> = GucSetting::<f64>::new(tuning::DEFAULT_RERANK_Z);
static EXPECTED_ROWS: GucSetting<i32> = GucSetting::<i32>::new(tuning::DEFAULT_EXPECTED_ROWS as i32);
static MAX_RECOMPUTE: GucSetting<i32> = GucSetting::<i32>::new(0);
static RECOMPUTE_BATCH: GucSetting<i32> = GucSetting::<i32>::new(tuning::DEFAULT_RECOMPUTE_BATCH as i32);
static MAX_EMBEDDED_ROWS: GucSetting<i32> = GucSetting::<i32>::new(10_000);
static ITERATIVE_SCAN: GucSetting<IterativeScan> =
    GucSetting::<IterativeScan>::new(IterativeScan::StrictOrder);
static LOG_MIN_DURATION: GucSetting<i32> = GucSetting::<i32>::new(-1);
static CACHE_SIZE: GucSetting<i32> = GucSetting::<i32>::new(4096);
static SHARED_CACHE_SIZE: GucSetting<i32> = GucSetting::<i32>::new(64 * 1024);
static THREADS: GucSetting<i32> = GucSetting::<i32>::new(0);
static MAX_THREADS: GucSetting<i32> = GucSetting::<i32>::new(0);
static EXECUTION_PROVIDER: GucSetting<ExecutionProvider> =
    GucSetting::<ExecutionProvider>::new(ExecutionProvider::Cpu);
static ONNXRUNTIME_LIBRARY: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));
static MODEL_DIR: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));
static DEFAULT_MODEL: GucSetting<Option<CString>> =
    GucSetting::<Option<CString>>::new(Some(c"all-MiniLM-L6-v2"));
static RECOMPUTE_COST_SETTING: GucSetting<f64> = GucSetting::<f64>::new(RECOMPUTE_COST);

/// Returns the number of candidates that a scan's walk keeps.
pub fn ef_search() -> usize {
    EF_SEARCH.get() as usize
}

/// Returns the number of consecutive node pages without a new candidate after which the walk of an index of
/// `index_blocks` blocks ends: the setting, or a number that suits the index's size and how unlike its rows
/// the query is (1 if it is not).
pub fn patience(index_blocks: u32, strangeness: f32) -> usize {
    match PATIENCE.get() {
        0 => leann_graph::default_patience(index_blocks, strangeness) as usize,
        pages => pages as usize,
    }
}

/// Returns how certain a scan must be before it returns rows, in standard deviations.
pub fn rerank_z() -> f64 {
    RERANK_Z.get()
}

/// Returns the number of rows that a scan returns as one group.
pub fn expected_rows() -> usize {
    EXPECTED_ROWS.get() as usize
}

/// Returns the maximum number of recomputes of one scan; 0 means no limit.
pub fn max_recompute() -> usize {
    MAX_RECOMPUTE.get() as usize
}

/// Returns the maximum number of texts that a statement may embed for distances and casts outside an index; 0
/// means no limit.
pub fn max_embedded_rows() -> u64 {
    MAX_EMBEDDED_ROWS.get() as u64
}

/// Returns the number of rows that a scan recomputes together.
pub fn recompute_batch() -> usize {
    RECOMPUTE_BATCH.get() as usize
}

/// Returns the milliseconds from which a scan is logged; None if none is.
pub fn log_min_duration() -> Option<f64> {
    u32::try_from(LOG_MIN_DURATION.get()).ok().map(f64::from)
}

pub fn iterative_scan() -> IterativeScan {
    ITERATIVE_SCAN.get()
}

/// Returns the bytes that the embedding cache of a session may take.
pub fn cache_bytes() -> usize {
    CACHE_SIZE.get() as usize * 1024
}

/// Returns the bytes of the cache that all sessions share, if the library is preloaded.
pub fn shared_cache_bytes() -> usize {
    SHARED_CACHE_SIZE.get() as usize * 1024
}

/// Returns the number of threads that may embed at once: the setting, or as many as the superuser's maximum
/// allows.
pub fn threads() -> usize {
    let most = match MAX_THREADS.get() {
        0 => std::thread::available_parallelism().map_or(1, |cores| cores.get()),
        most => most as usize,
    };
    match THREADS.get() {
        0 => most,
        threads => most.min(threads as usize),
    }
}

pub fn execution_provider() -> &'static str {
    match EXECUTION_PROVIDER.get() {
        ExecutionProvider::Cpu => "cpu",
        ExecutionProvider::Cuda => "cuda",
    }
}

/// Returns the path of the ONNX Runtime library: the setting, or `leann/libonnxruntime.so` in the server's
/// library directory.
pub fn onnxruntime_library() -> PathBuf {
    path(&ONNXRUNTIME_LIBRARY).unwrap_or_else(|| {
        // SAFETY: pkglib_path is a NUL-terminated array that the postmaster filled before any extension was
        // loaded.
        let lib = unsafe { CStr::from_ptr((&raw const pg_sys::pkglib_path).cast::<c_char>()) };
        PathBuf::from(OsStr::from_bytes(lib.to_bytes())).join("leann/libonnxruntime.so")
    })
}

/// Returns the folder that contains the models' folders: the setting, or `leann/models` in the server's share
/// directory.
pub fn model_dir() -> PathBuf {
    path(&MODEL_DIR).unwrap_or_else(|| {
        let mut share: [c_char; pg_sys::MAXPGPATH as usize] = [0; pg_sys::MAXPGPATH as usize];
        // SAFETY: my_exec_path is NUL-terminated, and get_share_path writes at most MAXPGPATH bytes.
        let share = unsafe {
            pg_sys::get_share_path((&raw const pg_sys::my_exec_path).cast::<c_char>(), share.as_mut_ptr());
            CStr::from_ptr(share.as_ptr())
        };
        PathBuf::from(OsStr::from_bytes(share.to_bytes())).join("leann/models")
    })
}

/// Returns the model of embeddings that name none. The check hook guarantees that the name is well formed.
pub fn default_model() -> String {
    setting_text(&DEFAULT_MODEL.get().unwrap_or_default()).into_owned()
}

/// Returns the planner's cost of one recompute, in its own units.
pub fn recompute_cost() -> f64 {
    RECOMPUTE_COST_SETTING.get()
}

/// Returns a setting's value as UTF-8. Its encoding depends on where it was set: a value that is valid UTF-8
/// is taken as that (as from the configuration file), any other as text in the database's encoding.
fn setting_text(value: &CStr) -> Cow<'_, str> {
    match value.to_str() {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => encoding::utf8_lossy(value.to_bytes()),
    }
}

fn path(setting: &GucSetting<Option<CString>>) -> Option<PathBuf> {
    let value = setting.get()?;
    (!value.is_empty()).then(|| PathBuf::from(OsStr::from_bytes(value.to_bytes())))
}

/// Returns whether the library is being preloaded, which is the only time when shared memory can be
/// requested.
pub fn preloading() -> bool {
    // SAFETY: a plain read of this process's variable.
    unsafe { pg_sys::process_shared_preload_libraries_in_progress }
}

/// Defines every setting. Called once, from `_PG_init`.
pub fn register() {
    search_settings();
    model_settings();
    file_settings();
    server_settings();
    // SAFETY: a plain call with a constant. It makes `SET leann.misspelled = …` an error from here on.
    unsafe { pg_sys::MarkGUCPrefixReserved(c"leann".as_ptr()) };
}

fn search_settings() {
    use GucContext::Userset;
    let none = GucFlags::default();
    GucRegistry::define_int_guc(
        c"leann.ef_search",
        c"Sets the number of candidates that the walk of an index scan keeps.",
        c"Higher values find more of the nearest rows and read more node pages.",
        &EF_SEARCH,
        1,
        10_000,
        Userset,
        none,
    );
    GucRegistry::define_int_guc(
        c"leann.patience",
        c"Sets the number of consecutive node pages without a new candidate after which a walk ends.",
        c"Higher values find more of the nearest rows and read more node pages. 0 chooses by the size of the \
          index.",
        &PATIENCE,
        0,
        10_000,
        Userset,
        none,
    );
    GucRegistry::define_float_guc(
        c"leann.rerank_z",
        c"Sets how certain a scan must be, in standard deviations, that no nearer row is left.",
        c"A scan returns rows once the share of them that it expects to miss is below that of a normal \
          distribution beyond this value. Higher values recompute more rows and miss fewer.",
        &RERANK_Z,
        -4.0,
        8.0,
        Userset,
        none,
    );
    GucRegistry::define_int_guc(
        c"leann.expected_rows",
        c"Sets the number of rows that an index scan returns as one group.",
        c"It matters where a scan sees no LIMIT. Otherwise a group has as many rows as LIMIT wants.",
        &EXPECTED_ROWS,
        1,
        1000,
        Userset,
        none,
    );
    GucRegistry::define_int_guc(
        c"leann.max_recompute",
        c"Sets the maximum number of rows that one index scan recomputes.",
        c"Further rows follow in the order of their estimated distances. 0 sets no limit.",
        &MAX_RECOMPUTE,
        0,
        i32::MAX,
        Userset,
        none,
    );
    GucRegistry::define_int_guc(
        c"leann.max_embedded_rows",
        c"Sets the maximum number of texts that a statement may embed for distances and casts outside an \
          index.",
        c"A statement that needs more is stopped, because it embeds a table row by row. 0 sets no limit.",
        &MAX_EMBEDDED_ROWS,
        0,
        i32::MAX,
        Userset,
        none,
    );
    GucRegistry::define_int_guc(
        c"leann.recompute_batch",
        c"Sets the number of rows that an index scan recomputes at a time.",
        c"Larger batches use more threads and suit a GPU, but may recompute rows that were not needed.",
        &RECOMPUTE_BATCH,
        1,
        1024,
        Userset,
        none,
    );
    GucRegistry::define_enum_guc(
        c"leann.iterative_scan",
        c"Sets what an index scan does with a row that turns out nearer than one already returned.",
        c"strict_order leaves the row out, so that distances never decrease; relaxed_order returns it late.",
        &ITERATIVE_SCAN,
        Userset,
        none,
    );
    GucRegistry::define_int_guc(
        c"leann.log_min_duration",
        c"Sets the minimum time of an index scan above which it is logged, with what it did.",
        c"0 logs all index scans, -1 none.",
        &LOG_MIN_DURATION,
        -1,
        i32::MAX,
        GucContext::Suset,
        GucFlags::UNIT_MS,
    );
    GucRegistry::define_float_guc(
        c"leann.recompute_cost",
        c"Sets the planner's estimate of the cost of recomputing one row in an index scan.",
        c"The value is in the planner's units, like seq_page_cost.",
        &RECOMPUTE_COST_SETTING,
        0.0,
        1e10,
        Userset,
        GucFlags::EXPLAIN,
    );
}

fn model_settings() {
    GucRegistry::define_int_guc(
        c"leann.cache_size",
        c"Sets the memory that each session uses to keep embeddings.",
        c"A row whose embedding is kept is not recomputed. 4 MB hold about 2500 embeddings of 384 \
          dimensions.",
        &CACHE_SIZE,
        64,
        i32::MAX,
        GucContext::Userset,
        GucFlags::UNIT_KB,
    );
    GucRegistry::define_int_guc(
        c"leann.threads",
        c"Sets the number of threads that compute embeddings in a session.",
        c"0 uses as many as leann.max_threads allows; no value can exceed that.",
        &THREADS,
        0,
        1024,
        GucContext::Userset,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"leann.max_threads",
        c"Sets the maximum number of threads that compute embeddings in a session.",
        c"0 allows one for each core that the server may use.",
        &MAX_THREADS,
        0,
        1024,
        GucContext::Suset,
        GucFlags::default(),
    );
    // SAFETY: the hook is guarded against panics.
    unsafe {
        GucRegistry::define_string_guc_with_hooks(
            c"leann.default_model",
            c"Sets the model of embeddings that name none.",
            c"The name of a folder in leann.model_dir. An index whose expression names no model keeps the \
              value of the session that built it, or rebuilt it by REINDEX.",
            &DEFAULT_MODEL,
            GucContext::Userset,
            GucFlags::default(),
            Some(check_model_name),
            None,
            None,
        );
    }
    GucRegistry::define_enum_guc(
        c"leann.execution_provider",
        c"Sets where models run.",
        c"cuda needs an ONNX Runtime library that supports it.",
        &EXECUTION_PROVIDER,
        GucContext::Suset,
        GucFlags::default(),
    );
}

/// Defines the settings of the whole server. If the library is not preloaded they have no effect, and
/// Postgres then refuses to define a setting that takes a restart. But they must exist, or ALTER SYSTEM could
/// not set them before the restart that preloads the library.
fn server_settings() {
    let context = if preloading() { GucContext::Postmaster } else { GucContext::Sighup };
    GucRegistry::define_int_guc(
        c"leann.shared_cache_size",
        c"Sets the shared memory that keeps embeddings for all sessions.",
        c"Sessions of the same role and database find what others have embedded. 0 turns that off. A change \
          takes a restart, and has an effect only with leann in shared_preload_libraries.",
        &SHARED_CACHE_SIZE,
        0,
        i32::MAX,
        context,
        GucFlags::UNIT_KB,
    );
}

fn file_settings() {
    // SAFETY: the hook is guarded against panics.
    unsafe {
        GucRegistry::define_string_guc_with_hooks(
            c"leann.onnxruntime_library",
            c"Sets the path of the ONNX Runtime library.",
            c"Empty means leann/libonnxruntime.so in the server's library directory. A session that has \
              loaded a library keeps it.",
            &ONNXRUNTIME_LIBRARY,
            GucContext::Suset,
            GucFlags::SUPERUSER_ONLY,
            Some(check_path),
            None,
            None,
        );
        GucRegistry::define_string_guc_with_hooks(
            c"leann.model_dir",
            c"Sets the folder that contains the models' folders.",
            c"Empty means leann/models in the server's share directory.",
            &MODEL_DIR,
            GucContext::Suset,
            GucFlags::SUPERUSER_ONLY,
            Some(check_path),
            None,
            None,
        );
    }
}

/// Check hook of `leann.default_model`.
#[pg_guard]
unsafe extern "C-unwind" fn check_model_name(
    value: *mut *mut c_char,
    _extra: *mut *mut c_void,
    _source: pg_sys::GucSource::Type,
) -> bool {
    // SAFETY: Postgres passes a pointer to the new value, which is a C string or null.
    let value = unsafe { if (*value).is_null() { c"" } else { CStr::from_ptr(*value) } };
    match leann_value::check_name(&setting_text(value)) {
        Ok(()) => true,
        Err(reason) => reject(&format!("A model name {reason}.")),
    }
}

/// Check hook of the settings that hold a path. It must be absolute: a relative one would start in the data
/// directory.
#[pg_guard]
unsafe extern "C-unwind" fn check_path(
    value: *mut *mut c_char,
    _extra: *mut *mut c_void,
    _source: pg_sys::GucSource::Type,
) -> bool {
    // SAFETY: Postgres passes a pointer to the new value, which is a C string or null.
    let value = unsafe { if (*value).is_null() { c"" } else { CStr::from_ptr(*value) } };
    if value.is_empty() || value.to_bytes()[0] == b'/' {
        return true;
    }
    reject("The path must be absolute, or empty for the default.")
}

/// Leaves a detail for the error that Postgres raises about the value, as the macro GUC_check_errdetail does.
fn reject(detail: &str) -> bool {
    let detail = CString::new(detail).unwrap_or_default();
    // SAFETY: both functions copy their arguments, and "%s" takes exactly one C string.
    unsafe {
        pg_sys::pre_format_elog_string(0 as c_int, ptr::null());
        pg_sys::GUC_check_errdetail_string = pg_sys::format_elog_string(c"%s".as_ptr(), detail.as_ptr());
    }
    false
}
