//! Index options: `WITH (sketch_bytes = …, fillfactor = …, store = …)`.

use crate::pg::Rel;
use crate::pg::buffer::BODY_BYTES;
use leann_graph::tuning::{DEFAULT_FILL_PERCENT, DEFAULT_SKETCH_BYTES};
use leann_layout::BuildOptions;
use pgrx::pg_sys;
use std::sync::OnceLock;

/// An option whose value is a whole number.
struct IntOption {
    default: i32,
    min: i32,
    max: i32,
}

/// Bytes of a node's sketch: what one row costs in addition to its heap pointer.
const SKETCH_BYTES: IntOption = IntOption { default: DEFAULT_SKETCH_BYTES as i32, min: 8, max: 512 };
/// Percentage of a node page that a build fills.
const FILL_PERCENT: IntOption = IntOption { default: DEFAULT_FILL_PERCENT as i32, min: 30, max: 100 };

/// What an index stores of each row's embedding.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum Store {
    /// A sketch, so that a search recomputes the embeddings that it needs.
    Nothing = 0,
    /// The whole embedding in 16-bit floats, so that a search recomputes none.
    Float16 = 1,
}

/// The options of an index.
#[derive(Clone, Copy)]
pub struct Options {
    pub sketch_bytes: i32,
    pub fill_percent: i32,
    pub store: Store,
}

/// The form in which the server stores the options as `rd_options`: a varlena header and the values.
#[repr(C)]
struct StoredOptions {
    header: i32,
    sketch_bytes: i32,
    fill_percent: i32,
    /// The number of a `Store`; the server admits no others.
    store: i32,
}

/// The values of `store` in the form that the server expects, with an element without a name at the end.
struct StoreValues([pg_sys::relopt_enum_elt_def; 3]);
// SAFETY: the pointers lead to static text, which no code writes to.
unsafe impl Sync for StoreValues {}
static STORE_VALUES: StoreValues = StoreValues([
    pg_sys::relopt_enum_elt_def { string_val: c"none".as_ptr(), symbol_val: Store::Nothing as i32 },
    pg_sys::relopt_enum_elt_def { string_val: c"float16".as_ptr(), symbol_val: Store::Float16 as i32 },
    pg_sys::relopt_enum_elt_def { string_val: std::ptr::null(), symbol_val: 0 },
]);

/// The kind of options that the server gave to this access method.
static OPTION_KIND: OnceLock<pg_sys::relopt_kind::Type> = OnceLock::new();

/// Registers the options with the server, unless that is done already.
pub fn register() {
    OPTION_KIND.get_or_init(|| {
        // SAFETY: the backend's one thread calls the server; names and texts are static.
        unsafe {
            let kind = pg_sys::add_reloption_kind();
            let lock = pg_sys::AccessExclusiveLock as pg_sys::LOCKMODE;
            pg_sys::add_int_reloption(
                kind,
                c"sketch_bytes".as_ptr(),
                c"Bytes of each row's sketch; takes effect when the index is built".as_ptr(),
                SKETCH_BYTES.default,
                SKETCH_BYTES.min,
                SKETCH_BYTES.max,
                lock,
            );
            pg_sys::add_int_reloption(
                kind,
                c"fillfactor".as_ptr(),
                c"Percentage of each node page that a build fills".as_ptr(),
                FILL_PERCENT.default,
                FILL_PERCENT.min,
                FILL_PERCENT.max,
                lock,
            );
            // The server only reads the values, through a pointer that its interface declares mutable.
            pg_sys::add_enum_reloption(
                kind,
                c"store".as_ptr(),
                c"What the index stores of embeddings: none or float16; takes effect when the index is built"
                    .as_ptr(),
                STORE_VALUES.0.as_ptr().cast_mut(),
                Store::Nothing as i32,
                c"Valid values are \"none\" and \"float16\".".as_ptr(),
                lock,
            );
            kind
        }
    });
}

impl Options {
    /// Reads the options of an index, or the defaults.
    pub fn read(index: Rel) -> Options {
        // SAFETY: the relation is open. `amoptions` below made its options, so they are null or
        // `StoredOptions`.
        let stored = unsafe { ((*index.raw()).rd_options as *const StoredOptions).as_ref() };
        match stored {
            None => Options {
                sketch_bytes: SKETCH_BYTES.default,
                fill_percent: FILL_PERCENT.default,
                store: Store::Nothing,
            },
            Some(stored) => Options {
                sketch_bytes: stored.sketch_bytes,
                fill_percent: stored.fill_percent,
                store: if stored.store == Store::Float16 as i32 { Store::Float16 } else { Store::Nothing },
            },
        }
    }

    /// Returns the options of a build with this seed.
    pub fn for_build(&self, seed: u64) -> BuildOptions {
        BuildOptions {
            sketch_bytes: self.sketch_bytes as usize,
            fill_percent: self.fill_percent as usize,
            store_embeddings: self.store == Store::Float16,
            body_bytes: BODY_BYTES,
            seed,
        }
    }
}

/// Returns the description of one option for `build_reloptions`.
fn element(
    name: &'static std::ffi::CStr,
    opttype: pg_sys::relopt_type::Type,
    offset: usize,
) -> pg_sys::relopt_parse_elt {
    pg_sys::relopt_parse_elt {
        optname: name.as_ptr(),
        opttype,
        offset: offset as i32,
        #[cfg(feature = "pg18")]
        isset_offset: 0,
    }
}

/// Parses the options of an index for the server.
#[pgrx::pg_guard]
pub unsafe extern "C-unwind" fn amoptions(options: pg_sys::Datum, validate: bool) -> *mut pg_sys::bytea {
    register();
    use pg_sys::relopt_type::{RELOPT_TYPE_ENUM, RELOPT_TYPE_INT};
    use std::mem::offset_of;
    let elements = [
        element(c"sketch_bytes", RELOPT_TYPE_INT, offset_of!(StoredOptions, sketch_bytes)),
        element(c"fillfactor", RELOPT_TYPE_INT, offset_of!(StoredOptions, fill_percent)),
        element(c"store", RELOPT_TYPE_ENUM, offset_of!(StoredOptions, store)),
    ];
    let kind = OPTION_KIND.get().copied().unwrap_or_default();
    // SAFETY: the elements name the fields of `StoredOptions`, whose size is given.
    unsafe {
        pg_sys::build_reloptions(
            options,
            validate,
            kind,
            size_of::<StoredOptions>(),
            elements.as_ptr(),
            elements.len() as i32,
        ) as *mut pg_sys::bytea
    }
}
