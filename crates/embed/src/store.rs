//! A folder that belongs to the server alone: copies of the files that are mapped, and remembered hashes of
//! files.
//!
//! A process that maps a file depends on everyone who may write it. If the file is truncated, the process
//! dies (SIGBUS); if it is overwritten, the weights of a model in use change. Models come into their folder
//! by cp, rsync or a mounted volume, and all of these write in place. So no file is mapped where it was put.
//! The files are copied into this folder, hashed as they are read, and all processes of the server map the
//! copy. A copy is named by the hashes of its content and gets that name when it is complete. A lock file
//! beside it shows whether it is in use; the kernel releases the lock of a process that dies.
//!
//! Hashing takes longer than loading: 70 ms for 90 MB. So a file's hash is remembered under what the file
//! system knows of the file: device, inode, size, and the times of the last change of its content (mtime) and
//! of its inode (ctime). Only the kernel sets the ctime, so neither a copy that keeps times nor a touch can
//! make another file look like the one that was hashed. The hash of a file that changed in the last two
//! seconds is not remembered, because another change might get the same time.
//!
//! Everything in the folder can be made again, so it may be removed whenever no process uses it. Without a
//! folder ([`ModelStore::none`]), files are hashed each time and mapped where they are.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, SystemTime};

use crate::EmbedError;
use crate::folder::{Identity, identity, read_failed};

/// Where copies of model files are kept and hashes remembered, if anywhere.
#[derive(Clone, Debug, Default)]
pub struct ModelStore {
    root: Option<PathBuf>,
}

/// A file to copy, and the hash that its content has to have.
pub struct Original<'a> {
    pub path: &'a Path,
    /// The file's name in the copy.
    pub name: &'a OsStr,
    pub hash: blake3::Hash,
}

/// A copy in use, which no process removes while this value exists.
#[derive(Debug)]
pub struct HeldCopy {
    folder: PathBuf,
    lock: File,
    /// Whether it was made for this value, and not found.
    made: bool,
}

/// Called now and then. Returns true if the work is to be given up.
pub type ShouldStop<'a> = &'a dyn Fn() -> bool;

/// Time since a file's last change from which its hash is remembered: a younger file may change again without
/// a later time of change.
const MIN_REMEMBERED_AGE: Duration = Duration::from_secs(2);
/// Time for which a copy may be unused. An older one is removed when another copy is made.
const MAX_UNUSED_TIME: Duration = Duration::from_secs(3600);
/// Time between two attempts to lock a copy that another process is making.
const LOCK_POLL_INTERVAL: Duration = Duration::from_millis(5);
/// Size of the pieces in which files are read, in bytes: large enough for the widest vectors of blake3, small
/// enough for the CPU's cache.
const CHUNK_BYTES: usize = 256 << 10;

impl ModelStore {
    /// Returns a store that copies and remembers nothing.
    pub fn none() -> ModelStore {
        ModelStore::default()
    }

    /// Returns a store in this folder, which is made when it is first needed. Other users must not be able to
    /// write it.
    pub fn in_folder(root: PathBuf) -> ModelStore {
        ModelStore { root: Some(root) }
    }

    /// Returns the blake3 hash of a file's content, remembered or computed. `ModelFile` if the file cannot be
    /// read or changes meanwhile; `Stopped`.
    pub(crate) fn hash(&self, path: &Path, should_stop: ShouldStop) -> Result<blake3::Hash, EmbedError> {
        let before = identity(path)?;
        let key = format!("hash-{before}");
        if let Some(known) = self.recall(&key).and_then(|hex| blake3::Hash::from_hex(hex).ok()) {
            return Ok(known);
        }
        let settled = before.changed_before(SystemTime::now() - MIN_REMEMBERED_AGE);
        let mut file = File::open(path).map_err(|e| read_failed(path, &e))?;
        let hash = hash_into(path, &mut file, &mut io::sink(), should_stop)?;
        unchanged(path, &before)?;
        if settled {
            self.remember(&key, &hash.to_hex());
        }
        Ok(hash)
    }

    /// Returns what was remembered under this key.
    pub(crate) fn recall(&self, key: &str) -> Option<String> {
        fs::read_to_string(self.root.as_ref()?.join(key)).ok()
    }

    /// Remembers a line. Failures are ignored, because what is not remembered is computed again.
    pub(crate) fn remember(&self, key: &str, line: &str) {
        let Some(root) = &self.root else { return };
        let unfinished = root.join(format!("new-{}-{:?}", std::process::id(), thread::current().id()));
        let written = make_folder(root)
            .and_then(|()| own_file().create(true).truncate(true).open(&unfinished))
            .and_then(|mut file| file.write_all(line.as_bytes()))
            .and_then(|()| fs::rename(&unfinished, root.join(key)));
        if written.is_err() {
            let _ = fs::remove_file(&unfinished);
        }
    }

    /// Returns a folder with copies of these files, made now if there is none, or None if this store keeps no
    /// copies.
    ///
    /// `ModelFile` for a file that cannot be read or does not have its hash; `Store` if the copy cannot be
    /// written; `Stopped`.
    pub(crate) fn copy(
        &self,
        originals: &[Original],
        should_stop: ShouldStop,
    ) -> Result<Option<HeldCopy>, EmbedError> {
        let Some(root) = &self.root else { return Ok(None) };
        let name = name_of(originals);
        let folder = root.join(&name);
        let failed = |e: io::Error| store_failed(root, &e);
        make_folder(root).map_err(failed)?;
        let lock = own_file().create(true).open(root.join(format!("{name}.lock"))).map_err(failed)?;
        let mut made = false;
        loop {
            if got(lock.try_lock_shared()).map_err(failed)? {
                if folder.is_dir() {
                    // The time tells how long the copy has been unused.
                    let _ = lock.set_modified(SystemTime::now());
                    return Ok(Some(HeldCopy { folder, lock, made }));
                }
                lock.unlock().map_err(failed)?;
            }
            if got(lock.try_lock()).map_err(failed)? {
                let result = if folder.is_dir() {
                    Ok(())
                } else {
                    made = true;
                    make(&folder, root, originals, should_stop)
                };
                lock.unlock().map_err(failed)?;
                result?;
                remove_unused(root, &name);
                continue;
            }
            // Another process is making the copy.
            if should_stop() {
                return Err(EmbedError::Stopped);
            }
            thread::sleep(LOCK_POLL_INTERVAL);
        }
    }
}

impl HeldCopy {
    /// Returns the folder of the copy.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Removes the copy if it was made for this value and no process uses it.
    pub fn discard(self) {
        if self.made && self.lock.unlock().is_ok() && matches!(got(self.lock.try_lock()), Ok(true)) {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

/// Returns the name of the copy of these files.
fn name_of(originals: &[Original]) -> String {
    let mut hasher = blake3::Hasher::new();
    for original in originals {
        hasher.update(original.hash.as_bytes());
        hasher.update(blake3::hash(original.name.as_encoded_bytes()).as_bytes());
    }
    format!("copy-{}", hasher.finalize().to_hex())
}

/// Writes a complete copy or none. The caller holds the copy's lock exclusively.
fn make(
    folder: &Path,
    root: &Path,
    originals: &[Original],
    should_stop: ShouldStop,
) -> Result<(), EmbedError> {
    let unfinished = folder.with_extension("part");
    let begin = || {
        // A process that was killed may have left it.
        match fs::remove_dir_all(&unfinished) {
            Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        make_folder(&unfinished)
    };
    let written = begin().map_err(|e| store_failed(root, &e)).and_then(|()| {
        originals.iter().try_for_each(|original| copy_file(original, &unfinished, root, should_stop))
    });
    let put = written.and_then(|()| fs::rename(&unfinished, folder).map_err(|e| store_failed(root, &e)));
    if put.is_err() {
        let _ = fs::remove_dir_all(&unfinished);
    }
    put
}

/// Copies a file into a folder and verifies its hash.
fn copy_file(
    original: &Original,
    folder: &Path,
    root: &Path,
    should_stop: ShouldStop,
) -> Result<(), EmbedError> {
    let mut from = File::open(original.path).map_err(|e| read_failed(original.path, &e))?;
    let mut to =
        own_file().create_new(true).open(folder.join(original.name)).map_err(|e| store_failed(root, &e))?;
    let mut written = Writing { to: &mut to, error: None };
    let hash = hash_into(original.path, &mut from, &mut written, should_stop);
    if let Some(e) = written.error {
        return Err(store_failed(root, &e));
    }
    if hash? != original.hash {
        return Err(EmbedError::ModelFile {
            path: original.path.to_owned(),
            reason: "it changed while it was read".to_owned(),
        });
    }
    Ok(())
}

/// A file to write that keeps its error, to tell a failed write from a failed read.
struct Writing<'a> {
    to: &'a mut File,
    error: Option<io::Error>,
}

impl Write for Writing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.to.write(bytes).inspect_err(|e| {
            if e.kind() != ErrorKind::Interrupted {
                self.error = Some(match e.raw_os_error() {
                    Some(code) => io::Error::from_raw_os_error(code),
                    None => e.kind().into(),
                });
            }
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// Copies the rest of `from`, the file at `path`, to `to` and returns its blake3 hash.
fn hash_into(
    path: &Path,
    from: &mut impl Read,
    to: &mut impl Write,
    should_stop: ShouldStop,
) -> Result<blake3::Hash, EmbedError> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        if should_stop() {
            return Err(EmbedError::Stopped);
        }
        match from.read(&mut buffer) {
            Ok(0) => return Ok(hasher.finalize()),
            Ok(n) => {
                hasher.update(&buffer[..n]);
                to.write_all(&buffer[..n]).map_err(|e| read_failed(path, &e))?;
            }
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(read_failed(path, &e)),
        }
    }
}

/// Fails with `ModelFile` if the file changed.
fn unchanged(path: &Path, before: &Identity) -> Result<(), EmbedError> {
    if identity(path)? == *before {
        return Ok(());
    }
    Err(EmbedError::ModelFile { path: path.to_owned(), reason: "it changed while it was read".to_owned() })
}

/// Removes the copies, except `kept`, that no process has used for [`MAX_UNUSED_TIME`]. Failures are ignored:
/// the next call tries again.
fn remove_unused(root: &Path, kept: &str) {
    let Ok(entries) = root.read_dir() else { return };
    for entry in entries.flatten() {
        let file = entry.file_name();
        let Some(name) = file.to_str().and_then(|file| file.strip_suffix(".lock")) else { continue };
        let unused = entry
            .metadata()
            .and_then(|data| data.modified())
            .is_ok_and(|used| used.elapsed().is_ok_and(|ago| ago > MAX_UNUSED_TIME));
        if name == kept || !unused {
            continue;
        }
        let Ok(lock) = File::open(entry.path()) else { continue };
        if matches!(got(lock.try_lock()), Ok(true)) {
            let _ = fs::remove_dir_all(root.join(name));
            let _ = fs::remove_dir_all(root.join(name).with_extension("part"));
        }
    }
}

/// Returns whether a lock was taken, and not held by another process.
fn got(tried: Result<(), TryLockError>) -> io::Result<bool> {
    match tried {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(e)) => Err(e),
    }
}

/// Returns how files in the store are opened: readable by the server's user only.
fn own_file() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    options
}

/// Makes a folder, and those above it, accessible to the server's user only.
fn make_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Returns the error for a copy that cannot be written.
fn store_failed(root: &Path, e: &io::Error) -> EmbedError {
    EmbedError::Store {
        folder: root.to_owned(),
        reason: e.to_string(),
        full: matches!(e.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;
    use std::sync::atomic::{AtomicUsize, Ordering};

    const NEVER: ShouldStop = &|| false;

    struct Place {
        dir: tempfile::TempDir,
        store: ModelStore,
    }

    impl Place {
        fn new() -> Place {
            let dir = tempfile::tempdir().unwrap();
            let store = ModelStore::in_folder(dir.path().join("deep/store"));
            Place { dir, store }
        }

        fn file(&self, content: &[u8]) -> PathBuf {
            let path = self.dir.path().join("weights");
            fs::write(&path, content).unwrap();
            path
        }

        fn root(&self) -> PathBuf {
            self.dir.path().join("deep/store")
        }

        /// Copies the file as if it had this content.
        fn copy(&self, path: &Path, content: &[u8]) -> Result<Option<HeldCopy>, EmbedError> {
            let hash = blake3::hash(content);
            self.store.copy(&[Original { path, name: "w".as_ref(), hash }], NEVER)
        }

        fn entries(&self) -> usize {
            self.root().read_dir().map_or(0, Iterator::count)
        }
    }

    fn grow_old(path: &Path) {
        // Only the kernel sets the ctime, so all a test can do is wait.
        while identity(path).is_ok_and(|it| !it.changed_before(SystemTime::now() - MIN_REMEMBERED_AGE)) {
            thread::sleep(Duration::from_millis(50));
        }
    }

    #[test]
    fn a_file_is_hashed_whole_and_once() {
        let place = Place::new();
        let bytes: Vec<u8> = (0..1_000_000u32).map(|i| (i * 7) as u8).collect();
        let path = place.file(&bytes);
        assert_eq!(place.store.hash(&path, NEVER).unwrap(), blake3::hash(&bytes));
        assert_eq!(place.entries(), 0, "a file that was just written is not remembered");
        grow_old(&path);
        assert_eq!(place.store.hash(&path, NEVER).unwrap(), blake3::hash(&bytes));
        assert_eq!(place.entries(), 1);
        // The hash is remembered: nothing is read, so nothing asks whether to stop.
        assert_eq!(place.store.hash(&path, &|| true).unwrap(), blake3::hash(&bytes));

        // Size, inode and mtime are the same. The ctime tells.
        let modified = path.metadata().unwrap().modified().unwrap();
        fs::write(&path, vec![1; bytes.len()]).unwrap();
        File::options().append(true).open(&path).unwrap().set_modified(modified).unwrap();
        assert_eq!(place.store.hash(&path, NEVER).unwrap(), blake3::hash(&vec![1; bytes.len()]));
    }

    #[test]
    fn hashing_can_be_stopped() {
        let place = Place::new();
        let path = place.file(&[]);
        File::options().write(true).open(&path).unwrap().set_len(8 << 30).unwrap();
        let asked = AtomicUsize::new(0);
        let stop = || asked.fetch_add(1, Ordering::Relaxed) > 5;
        assert!(matches!(place.store.hash(&path, &stop), Err(EmbedError::Stopped)));
        let hash = blake3::hash(b"");
        let copied = place.store.copy(&[Original { path: &path, name: "w".as_ref(), hash }], &stop);
        assert!(matches!(copied, Err(EmbedError::Stopped)));
        assert_eq!(place.entries(), 1, "nothing but the lock is left");
    }

    #[test]
    fn a_copy_is_whole_its_own_and_made_once() {
        let place = Place::new();
        let path = place.file(b"good weights");
        let held = place.copy(&path, b"good weights").unwrap().unwrap();
        let copied = held.folder().join("w");
        assert_eq!(fs::read(&copied).unwrap(), b"good weights");
        assert_eq!(copied.metadata().unwrap().mode() & 0o777, 0o600);
        assert_eq!(place.root().metadata().unwrap().mode() & 0o777, 0o700);
        // A change of the original in place does not change the copy.
        fs::write(&path, b"").unwrap();
        assert_eq!(fs::read(&copied).unwrap(), b"good weights");
        let again = place.copy(&path, b"good weights").unwrap().unwrap();
        assert_eq!(again.folder(), held.folder());
    }

    #[test]
    fn what_has_another_hash_is_not_copied() {
        let place = Place::new();
        let path = place.file(b"other weights");
        let error = place.copy(&path, b"good weights").unwrap_err();
        assert!(matches!(&error, EmbedError::ModelFile { path: named, .. } if *named == path), "{error}");
        assert_eq!(place.entries(), 1, "nothing but the lock is left");
    }

    #[test]
    fn what_a_killed_process_left_is_no_copy() {
        let place = Place::new();
        let path = place.file(b"good weights");
        let folder = place.copy(&path, b"good weights").unwrap().unwrap().folder;
        fs::remove_dir_all(&folder).unwrap();
        fs::create_dir(folder.with_extension("part")).unwrap();
        fs::write(folder.with_extension("part").join("w"), b"good we").unwrap();
        let held = place.copy(&path, b"good weights").unwrap().unwrap();
        assert_eq!(fs::read(held.folder().join("w")).unwrap(), b"good weights");
    }

    #[test]
    fn many_at_once_share_one_copy() {
        let place = Place::new();
        let bytes = vec![3; 20 << 20];
        let path = place.file(&bytes);
        let inodes: std::collections::BTreeSet<u64> = thread::scope(|scope| {
            let copying: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        let held = place.copy(&path, &bytes).unwrap().unwrap();
                        held.folder().join("w").metadata().unwrap().ino()
                    })
                })
                .collect();
            copying.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(inodes.len(), 1);
    }

    #[test]
    fn copies_go_when_they_have_been_unused_for_long() {
        let place = Place::new();
        let path = place.file(b"one");
        let old = |held: &HeldCopy| {
            let lock = File::options().write(true).open(held.folder.with_extension("lock")).unwrap();
            lock.set_modified(SystemTime::now() - 2 * MAX_UNUSED_TIME).unwrap();
        };
        let one = place.copy(&path, b"one").unwrap().unwrap();
        old(&one);
        let first = one.folder.clone();
        fs::write(&path, b"two").unwrap();
        let two = place.copy(&path, b"two").unwrap().unwrap();
        assert!(first.is_dir(), "it is in use");
        drop(one);
        let second = two.folder.clone();
        drop(two);
        fs::write(&path, b"three").unwrap();
        let _three = place.copy(&path, b"three").unwrap().unwrap();
        assert!(!first.is_dir() && second.is_dir());
    }

    #[test]
    fn what_was_copied_for_one_look_is_discarded() {
        let place = Place::new();
        let path = place.file(b"one");
        let look = place.copy(&path, b"one").unwrap().unwrap();
        let used = place.copy(&path, b"one").unwrap().unwrap();
        let folder = look.folder.clone();
        look.discard();
        assert!(folder.is_dir(), "another one uses it");
        used.discard();
        assert!(folder.is_dir(), "it was not made for this use");
        fs::remove_dir_all(&folder).unwrap();
        place.copy(&path, b"one").unwrap().unwrap().discard();
        assert!(!folder.exists());
    }

    #[test]
    fn a_place_that_cannot_be_written_is_named() {
        let place = Place::new();
        let path = place.file(b"one");
        fs::write(place.dir.path().join("deep"), "a file where the folder should be").unwrap();
        let error = place.copy(&path, b"one").unwrap_err();
        assert!(matches!(&error, EmbedError::Store { folder, .. } if *folder == place.root()), "{error}");
        // The hash is right even if it cannot be remembered.
        assert_eq!(place.store.hash(&path, NEVER).unwrap(), blake3::hash(b"one"));
    }
}
