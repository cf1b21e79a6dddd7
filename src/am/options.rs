//! Index options: `WITH (sketch_bytes = …, fillfactor = …)`.

use crate::pg::Rel;
use pgrx::pg_sys;
use std::sync::OnceLock;

/// Bytes of a node's sketch: what one row costs beyond its heap pointer.
pub const SKETCH_BYTES: (i32, i32, i32) = (52, 8, 512);
/// Percentage of a node page that a build fills.
pub const FILL_PERCENT: (i32, i32, i32) = (97, 30, 100);

/// An index's options.
#[derive(Clone, Copy)]
pub struct Options {
    pub sketch_bytes: i32,
    pub fill_percent: i32,
}

/// What the server stores as `rd_options`: a varlena header and the values.
#[repr(C)]
struct Stored {
    header: i32,
    sketch_bytes: i32,
    fill_percent: i32,
}

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
                Options { sketch_bytes: SKETCH_BYTES.0, fill_percent: FILL_PERCENT.0 }
            } else {
                Options { sketch_bytes: (*stored).sketch_bytes, fill_percent: (*stored).fill_percent }
            }
        }
    }
}

fn element(name: &'static std::ffi::CStr, offset: usize) -> pg_sys::relopt_parse_elt {
    pg_sys::relopt_parse_elt {
        optname: name.as_ptr(),
        opttype: pg_sys::relopt_type::RELOPT_TYPE_INT,
        offset: offset as i32,
        #[cfg(feature = "pg18")]
        isset_offset: 0,
    }
}

#[pgrx::pg_guard]
pub unsafe extern "C-unwind" fn amoptions(options: pg_sys::Datum, validate: bool) -> *mut pg_sys::bytea {
    register();
    let elements = [
        element(c"sketch_bytes", std::mem::offset_of!(Stored, sketch_bytes)),
        element(c"fillfactor", std::mem::offset_of!(Stored, fill_percent)),
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
