//! The vectors of a build: f16 rows in memory up to a limit, and beyond it in a temporary file of the server,
//! so that `temp_file_limit`, clean-up after errors and messages about a full disk work. The file is mapped
//! read-only once it is complete.

use super::allocator;
use crate::error::{Error, raise_internal};
use half::f16;
use memmap2::Mmap;
use pgrx::pg_sys;
use pgrx::pg_sys::errcodes::PgSqlErrorCode;
use std::ffi::CStr;

/// Bytes collected before they are written to the file, and the most in one write.
const WRITE_BUFFER_BYTES: usize = 1 << 20;

/// Rows of `dim` f16 values, appended once and then read.
pub struct VectorStore {
    dim: usize,
    rows: usize,
    limit_bytes: usize,
    memory: Vec<f16>,
    file: Option<TemporaryFile>,
}

/// A finished store.
pub enum Vectors {
    Memory(Vec<f16>),
    Mapped { map: Mmap, _file: TemporaryFile },
}

impl VectorStore {
    /// Returns a store that keeps at most `limit_bytes` in memory.
    pub fn new(dim: usize, limit_bytes: usize) -> VectorStore {
        VectorStore { dim, rows: 0, limit_bytes, memory: Vec::new(), file: None }
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Appends one row.
    pub fn push(&mut self, row: &[f32]) {
        assert_eq!(row.len(), self.dim);
        allocator::reserve(&mut self.memory, row.len(), "the vectors of a build");
        self.memory.extend(row.iter().map(|&value| f16::from_f32(value)));
        self.rows += 1;
        let buffered = self.memory.len() * size_of::<f16>();
        // Once rows have been spilled, the memory is only a write buffer.
        let limit = if self.file.is_some() { WRITE_BUFFER_BYTES } else { self.limit_bytes };
        if buffered >= limit {
            self.spill();
        }
    }

    fn spill(&mut self) {
        let file = self.file.get_or_insert_with(TemporaryFile::create);
        file.append(as_bytes(&self.memory));
        self.memory.clear();
        self.memory.shrink_to(WRITE_BUFFER_BYTES / size_of::<f16>());
    }

    /// Returns all rows for reading.
    pub fn finish(mut self) -> Vectors {
        if self.file.is_some() && !self.memory.is_empty() {
            self.spill();
        }
        match self.file {
            None => Vectors::Memory(self.memory),
            Some(file) => Vectors::Mapped { map: file.map(), _file: file },
        }
    }
}

impl Vectors {
    /// Returns all values, row after row.
    pub fn values(&self) -> &[f16] {
        match self {
            Vectors::Memory(values) => values,
            Vectors::Mapped { map, .. } => from_bytes(map),
        }
    }
}

fn as_bytes(values: &[f16]) -> &[u8] {
    // SAFETY: f16 is two plain bytes without padding; the length is in bytes.
    unsafe { std::slice::from_raw_parts(values.as_ptr() as *const u8, size_of_val(values)) }
}

fn from_bytes(bytes: &[u8]) -> &[f16] {
    // SAFETY: any two bytes are an f16; a map begins at a page boundary, so it is aligned, and the length is
    // rounded down to whole values.
    unsafe { std::slice::from_raw_parts(bytes.as_ptr() as *const f16, bytes.len() / size_of::<f16>()) }
}

/// A temporary file of the server. It is deleted when dropped or, after an error, at the end of the
/// transaction.
pub struct TemporaryFile {
    file: pg_sys::File,
    length: u64,
}

impl TemporaryFile {
    fn create() -> TemporaryFile {
        // SAFETY: plain server calls; the file belongs to the current resource owner.
        unsafe {
            pg_sys::PrepareTempTablespaces();
            TemporaryFile { file: pg_sys::OpenTemporaryFile(false), length: 0 }
        }
    }

    fn append(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let piece = bytes.len().min(WRITE_BUFFER_BYTES);
            // SAFETY: the file is open and the piece is readable; the server itself raises `temp_file_limit`
            // errors.
            let written = unsafe {
                pg_sys::FileWrite(
                    self.file,
                    bytes.as_ptr().cast_mut().cast(),
                    piece as _,
                    self.length as _,
                    pg_sys::WaitEventIO::WAIT_EVENT_BUFFILE_WRITE,
                )
            };
            if written <= 0 {
                raise_write_failed(&self.path());
            }
            self.length += written as u64;
            bytes = &bytes[written as usize..];
        }
    }

    fn path(&self) -> String {
        // SAFETY: the name lives as long as the file is open.
        unsafe { CStr::from_ptr(pg_sys::FilePathName(self.file)) }.to_string_lossy().into_owned()
    }

    fn map(&self) -> Mmap {
        // The server may close and reopen a file's descriptor at any time, so the map is made from a separate
        // descriptor; a map outlives its descriptor.
        let result = std::fs::File::open(self.path()).and_then(|file| {
            // SAFETY: the file is private to this backend, complete, and neither written nor truncated any
            // more.
            unsafe { Mmap::map(&file) }
        });
        match result {
            Ok(map) => map,
            Err(error) if error.raw_os_error() == Some(libc::ENOMEM) => {
                allocator::raise_no_room("mapping the vectors of a build")
            }
            Err(error) => {
                raise_internal(format!("could not map the temporary file \"{}\": {error}", self.path()))
            }
        }
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: `create` opened it, and it is closed once; closing deletes it.
            unsafe { pg_sys::FileClose(self.file) };
        }
    }
}

/// Raises the ERROR for a failed write. The reason is in the C library's `errno`.
fn raise_write_failed(path: &str) -> ! {
    let reason = std::io::Error::last_os_error();
    let code = match reason.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
            PgSqlErrorCode::ERRCODE_DISK_FULL
        }
        _ => PgSqlErrorCode::ERRCODE_IO_ERROR,
    };
    Error::new(code, format!("could not write to the temporary file \"{path}\": {reason}"))
        .hint(
            "A build writes the vectors that exceed maintenance_work_mem to this file. Raise the setting or \
             free disk space.",
        )
        .raise()
}
