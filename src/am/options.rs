//! Index options: `WITH (sketch_bytes = …, fillfactor = …, store = …)`.

use crate::pg::Rel;
use leann_sketch::Sketcher;
use pgrx::pg_sys;
use std::sync::OnceLock;

/// Bytes of a node's sketch: what one row costs beyond its heap pointer.
pub const SKETCH_BYTES: (i32, i32, i32) = (54, 8, 512);
/// Percentage of a node page that a build fills.
pub const FILL_PERCENT: (i32, i32, i32) = (97, 30, 100);

/// What the index keeps of each row's embedding.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum Store {
    /// A sketch: the embedding is recomputed where it is needed.
    Nothing = 0,
    /// All of it, in 16-bit floats: nothing is recomputed.
    Float16 = 1,
}

/// An index's options.
#[derive(Clone, Copy)]
pub struct Options {
    pub sketch_bytes: i32,
    pub fill_percent: i32,
    pub store: Store,
}

/// What the server stores as `rd_options`: a varlena header and the values.
#[repr(C)]
struct Stored {
    header: i32,
    sketch_bytes: i32,
    fill_percent: i32,
    /// A number of `Store`: the server knows no others.
    store: i32,
}

/// The values of `store`, ended by one without a name, as the server wants them.
struct StoreValues([pg_sys::relopt_enum_elt_def; 3]);
// SAFETY: pointers to static text, which nobody writes to.
unsafe impl Sync for StoreValues {}
static STORE_VALUES: StoreValues = StoreValues([
    pg_sys::relopt_enum_elt_def { string_val: c"none".as_ptr(), symbol_val: Store::Nothing as i32 },
    pg_sys::relopt_enum_elt_def { string_val: c"float16".as_ptr(), symbol_val: Store::Float16 as i32 },
    pg_sys::relopt_enum_elt_def { string_val: std::ptr::null(), symbol_val: 0 },
]);

/// The kind under which the options are registered.
static KIND: OnceLock<pg_sys::relopt_kind::Type> = OnceLock::new();

/// Registers the options; called once, when the library is loaded.
pub fn register() {
    KIND.get_or_init(|| {
        // SAFETY: called from the library's initialisation; names and texts are static.
        unsafe {
            let kind = pg_sys::add_reloption_kind();
            let lock = pg_sys::AccessExclusiveLock as pg_sys::LOCKMODE;
            let (default, low, high) = SKETCH_BYTES;
            pg_sys::add_int_reloption(
                kind,
                c"sketch_bytes".as_ptr(),
                c"Bytes of each row's sketch; takes effect when the index is built".as_ptr(),
                default,
                low,
                high,
                lock,
            );
            let (default, low, high) = FILL_PERCENT;
            pg_sys::add_int_reloption(
                kind,
                c"fillfactor".as_ptr(),
                c"Percentage of each node page that a build fills".as_ptr(),
                default,
                low,
                high,
                lock,
            );
            // The server only reads the values, through a pointer that its interface declares mutable.
            pg_sys::add_enum_reloption(
                kind,
                c"store".as_ptr(),
                c"What is kept of embeddings: none, which recomputes them, or float16; takes effect when the index is built"
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
    /// The options of an index, or the defaults.
    pub fn of(index: Rel) -> Options {
        // SAFETY: the relation is open; its options were made by `amoptions` below, so they are a `Stored`.
        unsafe {
            let stored = (*index.raw()).rd_options as *const Stored;
            if stored.is_null() {
                return Options {
                    sketch_bytes: SKETCH_BYTES.0,
                    fill_percent: FILL_PERCENT.0,
                    store: Store::Nothing,
                };
            }
            let store =
                if (*stored).store == Store::Float16 as i32 { Store::Float16 } else { Store::Nothing };
            Options { sketch_bytes: (*stored).sketch_bytes, fill_percent: (*stored).fill_percent, store }
        }
    }
}

impl Options {
    /// The sketcher of an index whose rows nobody has seen.
    pub fn first_sketcher(&self, dim: usize, seed: u64) -> Sketcher {
        match self.store {
            Store::Nothing => Sketcher::untrained(dim, seed),
            Store::Float16 => Sketcher::float16(dim),
        }
    }
}

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

#[pgrx::pg_guard]
pub unsafe extern "C-unwind" fn amoptions(options: pg_sys::Datum, validate: bool) -> *mut pg_sys::bytea {
    register();
    use pg_sys::relopt_type::{RELOPT_TYPE_ENUM, RELOPT_TYPE_INT};
    use std::mem::offset_of;
    let elements = [
        element(c"sketch_bytes", RELOPT_TYPE_INT, offset_of!(Stored, sketch_bytes)),
        element(c"fillfactor", RELOPT_TYPE_INT, offset_of!(Stored, fill_percent)),
        element(c"store", RELOPT_TYPE_ENUM, offset_of!(Stored, store)),
    ];
    let kind = KIND.get().copied().unwrap_or_default();
    // SAFETY: the elements name the fields of `Stored`, whose size is given.
    unsafe {
        pg_sys::build_reloptions(
            options,
            validate,
            kind,
            size_of::<Stored>(),
            elements.as_ptr(),
            elements.len() as i32,
        ) as *mut pg_sys::bytea
    }
}
