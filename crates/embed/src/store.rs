//! A folder that belongs to the server alone: copies of the files that are mapped, and what has been learnt of files.
//!
//! Whoever maps a file depends on all who may write it: cut short, the file kills the process (SIGBUS), and changed, it
//! changes the weights of a model at work. Models come into their folder by cp, rsync or somebody's volume, and all of
//! these write in place. So nothing is mapped where it was put. Its files are copied into this folder, hashed as they
//! are read, and all processes of the server map the copy. It is named by the hashes of its content, appears under
//! that name when it is whole, and has a lock file that says who uses it; the kernel takes the lock from a process that
//! dies.
//!
//! Hashing takes longer than loading: 70 ms for 90 MB. So a file's hash is remembered, under what the file system says
//! of the file: device, inode, size, and the times of the last change of its content and of anything about it. The last
//! of these only the kernel sets, so no copy with times kept and no touch can pass for the file that was hashed. A file
//! that changed in the last two seconds is not remembered: another change might still get the same time.
//!
//! All of it can be made again, so the folder may be removed whenever no process uses it. Without a folder
//! ([`Store::none`]), files are hashed each time and mapped where they lie.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, SystemTime};

use crate::EmbedError;
use crate::folder::{Identity, identity, read_failed};

/// Where copies are kept and hashes remembered, if anywhere.
#[derive(Clone, Debug, Default)]
pub struct Store {
    root: Option<PathBuf>,
}

/// A file to be copied, and what has to be in it.
pub struct Original<'a> {
    pub path: &'a Path,
    /// Its name in the copy.
    pub name: &'a OsStr,
    pub hash: blake3::Hash,
}

/// A copy in use: nobody removes it while this lives.
#[derive(Debug)]
pub struct Held {
    folder: PathBuf,
    lock: File,
    /// Whether it was made for this use.
    made: bool,
}

/// Asked now and then: is the work to be given up?
pub type ShouldStop<'a> = &'a dyn Fn() -> bool;

/// A file as young as this may change once more without another time of change.
const TOO_YOUNG: Duration = Duration::from_secs(2);
/// A copy that no process has used for so long is removed when another one is made.
const UNUSED: Duration = Duration::from_secs(3600);
/// Large enough for the hash's widest vectors, small enough for the cache.
const CHUNK: usize = 256 << 10;

impl Store {
    /// Nothing is copied or remembered.
    pub fn none() -> Store {
        Store::default()
    }

    /// In this folder, which is made when it is first needed. Nobody else may be able to write it.
    pub fn in_folder(root: PathBuf) -> Store {
        Store { root: Some(root) }
    }

    /// blake3 of a file's bytes, remembered or computed.
    pub(crate) fn hash(&self, path: &Path, should_stop: ShouldStop) -> Result<blake3::Hash, EmbedError> {
        let before = identity(path)?;
        let key = format!("hash-{before}");
        if let Some(known) = self.recall(&key).and_then(|hex| blake3::Hash::from_hex(hex).ok()) {
            return Ok(known);
        }
        let settled = before.changed_before(SystemTime::now() - TOO_YOUNG);
        let mut file = File::open(path).map_err(|e| read_failed(path, &e))?;
        let hash = hash_into(path, &mut file, &mut io::sink(), should_stop)?;
        unchanged(path, &before)?;
        if settled {
            self.remember(&key, &hash.to_hex());
        }
        Ok(hash)
    }

    /// What was remembered under this name.
    pub(crate) fn recall(&self, key: &str) -> Option<String> {
        fs::read_to_string(self.root.as_ref()?.join(key)).ok()
    }

    /// Remembers a line, if it can: what is forgotten is found out again.
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

    /// A folder with copies of these files, made now if there is none; None if there is no place for copies.
    ///
    /// `ModelFile` naming the file that does not have the hash it should have, or cannot be read; `Store` if the copy
    /// cannot be written; `Stopped`.
    pub(crate) fn copy(
        &self,
        originals: &[Original],
        should_stop: ShouldStop,
    ) -> Result<Option<Held>, EmbedError> {
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
                    // Only to know how long it has been unused.
                    let _ = lock.set_modified(SystemTime::now());
                    return Ok(Some(Held { folder, lock, made }));
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
            // Another process is making it.
            if should_stop() {
                return Err(EmbedError::Stopped);
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Held {
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Removes the copy if it was made for this use and there is no other.
    pub fn discard(self) {
        if self.made && self.lock.unlock().is_ok() && matches!(got(self.lock.try_lock()), Ok(true)) {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

fn name_of(originals: &[Original]) -> String {
    let mut hasher = blake3::Hasher::new();
    for original in originals {
        hasher.update(original.hash.as_bytes());
        hasher.update(blake3::hash(original.name.as_encoded_bytes()).as_bytes());
    }
    format!("copy-{}", hasher.finalize().to_hex())
}

/// Writes a copy whole or not at all. Only for who holds its lock alone.
fn make(
    folder: &Path,
    root: &Path,
    originals: &[Original],
    should_stop: ShouldStop,
) -> Result<(), EmbedError> {
    let unfinished = folder.with_extension("part");
    let begin = || {
        // Of a process that was killed.
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

/// Tells a failure to write from one to read.
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

/// blake3 of what is left of `from`, which goes to `to`.
fn hash_into(
    path: &Path,
    from: &mut impl Read,
    to: &mut impl Write,
    should_stop: ShouldStop,
) -> Result<blake3::Hash, EmbedError> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; CHUNK];
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

/// `ModelFile` if the file is no longer the one it was.
fn unchanged(path: &Path, before: &Identity) -> Result<(), EmbedError> {
    if identity(path)? == *before {
        return Ok(());
    }
    Err(EmbedError::ModelFile { path: path.to_owned(), reason: "it changed while it was read".to_owned() })
}

/// Copies but `kept` that no process uses and none has used for a while. What fails here is tried again another time.
fn remove_unused(root: &Path, kept: &str) {
    let Ok(entries) = root.read_dir() else { return };
    for entry in entries.flatten() {
        let file = entry.file_name();
        let Some(name) = file.to_str().and_then(|file| file.strip_suffix(".lock")) else { continue };
        let unused = entry
            .metadata()
            .and_then(|data| data.modified())
            .is_ok_and(|used| used.elapsed().is_ok_and(|ago| ago > UNUSED));
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

/// Whether a lock was taken, rather than being another's.
fn got(tried: Result<(), TryLockError>) -> io::Result<bool> {
    match tried {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(e)) => Err(e),
    }
}

fn own_file() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    options
}

fn make_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

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
        store: Store,
    }

    impl Place {
        fn new() -> Place {
            let dir = tempfile::tempdir().unwrap();
            let store = Store::in_folder(dir.path().join("deep/store"));
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

        /// Of a copy of the file, as if it had this content.
        fn copy(&self, path: &Path, content: &[u8]) -> Result<Option<Held>, EmbedError> {
            let hash = blake3::hash(content);
            self.store.copy(&[Original { path, name: "w".as_ref(), hash }], NEVER)
        }

        fn entries(&self) -> usize {
            self.root().read_dir().map_or(0, Iterator::count)
        }
    }

    fn grow_old(path: &Path) {
        // The kernel alone sets the time that counts.
        while identity(path).is_ok_and(|it| !it.changed_before(SystemTime::now() - TOO_YOUNG)) {
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
        // Remembered: nothing is read any more, so nothing asks whether to stop.
        assert_eq!(place.store.hash(&path, &|| true).unwrap(), blake3::hash(&bytes));

        // The same size, inode and time of writing: the kernel's own time tells.
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
        // Whatever happens to the original, in place or not, the copy stays.
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
    fn copies_go_when_nobody_has_used_them_for_long() {
        let place = Place::new();
        let path = place.file(b"one");
        let old = |held: &Held| {
            let lock = File::options().write(true).open(held.folder.with_extension("lock")).unwrap();
            lock.set_modified(SystemTime::now() - 2 * UNUSED).unwrap();
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
        assert!(folder.is_dir(), "somebody uses it");
        used.discard();
        assert!(folder.is_dir(), "who uses it did not make it");
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
        // Without a memory the hash is still right.
        assert_eq!(place.store.hash(&path, NEVER).unwrap(), blake3::hash(b"one"));
    }
}
