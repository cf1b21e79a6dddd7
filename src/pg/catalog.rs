//! Rows of the server's catalog caches.

use pgrx::pg_sys;
use std::marker::PhantomData;
use std::ops::Deref;

/// A row of a catalog, read as its fixed part `Form`. The cache keeps it until this is dropped.
pub struct CatalogRow<Form> {
    cache: i32,
    tuple: pg_sys::HeapTuple,
    form: PhantomData<Form>,
}

/// Returns the row of pg_proc of a function.
pub fn function(oid: pg_sys::Oid) -> Option<CatalogRow<pg_sys::FormData_pg_proc>> {
    // SAFETY: the cache has the oid as its only key and holds rows of pg_proc.
    unsafe { CatalogRow::find(pg_sys::SysCacheIdentifier::PROCOID as i32, oid) }
}

/// Returns the row of pg_operator of an operator.
pub fn operator(oid: pg_sys::Oid) -> Option<CatalogRow<pg_sys::FormData_pg_operator>> {
    // SAFETY: the cache has the oid as its only key and holds rows of pg_operator.
    unsafe { CatalogRow::find(pg_sys::SysCacheIdentifier::OPEROID as i32, oid) }
}

/// Returns the row of pg_index of an index.
pub fn index(oid: pg_sys::Oid) -> Option<CatalogRow<pg_sys::FormData_pg_index>> {
    // SAFETY: the cache has the oid as its only key and holds rows of pg_index.
    unsafe { CatalogRow::find(pg_sys::SysCacheIdentifier::INDEXRELID as i32, oid) }
}

impl<Form> CatalogRow<Form> {
    /// Returns the row with this key.
    ///
    /// # Safety
    /// `cache` has an oid as its only key and holds rows whose fixed part is a `Form`.
    unsafe fn find(cache: i32, key: pg_sys::Oid) -> Option<CatalogRow<Form>> {
        // SAFETY: the caller promises a cache with such a key; it takes any oid.
        let tuple = unsafe { pg_sys::SearchSysCache1(cache, key.into()) };
        (!tuple.is_null()).then(|| CatalogRow { cache, tuple, form: PhantomData })
    }

    /// Returns the value of a column, or None for NULL. It is valid while the row is.
    pub fn attribute(&self, column: u32) -> Option<pg_sys::Datum> {
        let mut null = true;
        // SAFETY: the tuple is held, and belongs to the cache.
        let value = unsafe {
            pg_sys::SysCacheGetAttr(self.cache, self.tuple, column as pg_sys::AttrNumber, &mut null)
        };
        (!null).then_some(value)
    }
}

impl<Form> Deref for CatalogRow<Form> {
    type Target = Form;

    fn deref(&self) -> &Form {
        // SAFETY: the tuple is held, and `find`'s caller promised its fixed part.
        unsafe { &*pg_sys::GETSTRUCT(self.tuple).cast::<Form>() }
    }
}

impl<Form> Drop for CatalogRow<Form> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: `find` took it, and it is released once.
            unsafe { pg_sys::ReleaseSysCache(self.tuple) };
        }
    }
}
