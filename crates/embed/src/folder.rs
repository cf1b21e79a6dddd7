//! Reads files of a model's folder, and none outside it.
//!
//! A model comes from elsewhere. Its files may be too large to read, may be no regular files, or may be links
//! that lead out of the folder. All of these are refused before a byte is read.

use std::fmt;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::de::DeserializeOwned;

use crate::EmbedError;

/// Largest size of a settings file in bytes. They have a few kB.
const MAX_SETTINGS_BYTES: u64 = 1 << 20;
/// Largest size of `tokenizer.json` in bytes. A vocabulary of 250,000 words has 20 to 40 MB.
pub const MAX_TOKENIZER_BYTES: u64 = 256 << 20;
/// Largest size in bytes of each file of weights beside the graph.
pub const MAX_WEIGHTS_BYTES: u64 = 64 << 30;
/// Largest size in bytes of a file that holds a graph. protobuf reads no larger message.
pub const MAX_GRAPH_BYTES: u64 = (2 << 30) - 1;
/// Largest number of components of a path inside a model's folder, the file name included. To find out
/// whether a folder has changed, a caller has to look at files down to this depth.
pub const MAX_FOLDER_DEPTH: usize = 4;

/// A model's folder, by its real path.
#[derive(Clone, Debug)]
pub struct Folder {
    root: PathBuf,
}

impl Folder {
    /// Opens a folder. `ModelMissing` if there is none.
    pub fn open(dir: &Path) -> Result<Folder, EmbedError> {
        let missing = |reason: String| EmbedError::ModelMissing { path: dir.to_owned(), reason };
        let root = dir.canonicalize().map_err(|e| missing(e.to_string()))?;
        if !root.is_dir() {
            return Err(missing("it is not a folder".to_owned()));
        }
        Ok(Folder { root })
    }

    /// Returns the folder's real path.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// Returns the real path and the size of a regular file of at most `limit` bytes inside the folder, or
    /// None if it is absent. `ModelFile` for anything else.
    pub fn find(&self, relative: &Path, limit: u64) -> Result<Option<(PathBuf, u64)>, EmbedError> {
        let path = self.root.join(relative);
        let refuse = |reason: String| EmbedError::ModelFile { path: path.clone(), reason };
        if !stays_inside(relative) {
            return Err(refuse("the name leads outside the model's folder".to_owned()));
        }
        if relative.components().count() > MAX_FOLDER_DEPTH {
            return Err(refuse(format!(
                "it lies more than {MAX_FOLDER_DEPTH} levels deep in the model's folder"
            )));
        }
        match path.symlink_metadata() {
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
            Err(e) => return Err(refuse(e.to_string())),
            Ok(_) => {}
        }
        let real = path.canonicalize().map_err(|e| refuse(e.to_string()))?;
        if !real.starts_with(&self.root) {
            return Err(refuse(
                "it is a link that leads outside the model's folder: copy the folder with its links followed \
                 (cp -rL; hf download --local-dir makes a folder without links)"
                    .to_owned(),
            ));
        }
        let metadata = real.metadata().map_err(|e| refuse(e.to_string()))?;
        if !metadata.is_file() {
            return Err(refuse("it is not a regular file".to_owned()));
        }
        if metadata.len() > limit {
            return Err(refuse(format!("it has {} bytes, more than the {limit} allowed", metadata.len())));
        }
        Ok(Some((real, metadata.len())))
    }

    /// Reads a file of at most `limit` bytes. None if it is absent.
    pub fn read(&self, relative: &Path, limit: u64) -> Result<Option<Vec<u8>>, EmbedError> {
        let Some((path, size)) = self.find(relative, limit)? else { return Ok(None) };
        let refuse = |reason: String| EmbedError::ModelFile { path: path.clone(), reason };
        let file = File::open(&path).map_err(|e| refuse(e.to_string()))?;
        let mut bytes = Vec::with_capacity(size as usize);
        // The file may have grown since its size was read.
        file.take(limit + 1).read_to_end(&mut bytes).map_err(|e| refuse(e.to_string()))?;
        if bytes.len() as u64 > limit {
            return Err(refuse(format!("it has more than the {limit} bytes allowed")));
        }
        Ok(Some(bytes))
    }

    /// Reads a settings file in JSON. None if it is absent.
    pub fn json<T: DeserializeOwned>(&self, relative: &Path) -> Result<Option<T>, EmbedError> {
        let Some(bytes) = self.read(relative, MAX_SETTINGS_BYTES)? else { return Ok(None) };
        match serde_json::from_slice(&bytes) {
            Ok(value) => Ok(Some(value)),
            Err(e) => Err(EmbedError::ModelFile { path: self.root.join(relative), reason: e.to_string() }),
        }
    }
}

/// Returns whether a relative path has only plain components: no root, no `..`.
fn stays_inside(relative: &Path) -> bool {
    let mut parts = relative.components().peekable();
    parts.peek().is_some() && parts.all(|part| matches!(part, Component::Normal(_)))
}

/// Returns whether `name` can be that of a file or folder in a given folder: one plain component that is not
/// hidden.
pub fn is_plain_name(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    let first = parts.next();
    matches!(first, Some(Component::Normal(part)) if part.to_str() == Some(name))
        && parts.next().is_none()
        && !name.starts_with('.')
        && !name.contains(|c: char| c.is_control())
}

/// The identities of some files, by which it shows if one of them is replaced.
#[derive(Clone, Debug)]
pub struct Stamp {
    files: Vec<(PathBuf, Identity)>,
}

/// What the file system knows of a file. It changes with the content, unless two changes get the same time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    device: u64,
    inode: u64,
    bytes: u64,
    /// The mtime: seconds and nanoseconds since 1970.
    modified: (i64, i64),
    /// The ctime, the time of any change of the file or its inode, which only the kernel sets.
    changed: (i64, i64),
}

impl Identity {
    /// Returns whether the last change was before `when`. False for a time that cannot be represented.
    pub fn changed_before(&self, when: SystemTime) -> bool {
        let (Ok(seconds), Ok(nanoseconds)) = (u64::try_from(self.changed.0), u32::try_from(self.changed.1))
        else {
            return false;
        };
        when.duration_since(UNIX_EPOCH).is_ok_and(|when| Duration::new(seconds, nanoseconds) < when)
    }
}

/// Writes the identity as a part of a file name.
impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Identity { device, inode, bytes, modified, changed } = self;
        write!(f, "{device}-{inode}-{bytes}-{}.{}-{}.{}", modified.0, modified.1, changed.0, changed.1)
    }
}

impl Stamp {
    /// Reads the identities of the files.
    pub fn new<'a>(paths: impl IntoIterator<Item = &'a Path>) -> Result<Stamp, EmbedError> {
        let stamped = |path: &'a Path| Ok((path.to_owned(), identity(path)?));
        Ok(Stamp { files: paths.into_iter().map(stamped).collect::<Result<_, _>>()? })
    }

    /// Fails with `ModelFile` for a file that has another identity now.
    pub fn check(&self) -> Result<(), EmbedError> {
        for (path, known) in &self.files {
            if identity(path)? != *known {
                let reason = "it was replaced while the model was in use: open the model again".to_owned();
                return Err(EmbedError::ModelFile { path: path.clone(), reason });
            }
        }
        Ok(())
    }
}

/// Reads what the file system knows of a file.
pub fn identity(path: &Path) -> Result<Identity, EmbedError> {
    let data = path.metadata().map_err(|e| read_failed(path, &e))?;
    Ok(Identity {
        device: data.dev(),
        inode: data.ino(),
        bytes: data.size(),
        modified: (data.mtime(), data.mtime_nsec()),
        changed: (data.ctime(), data.ctime_nsec()),
    })
}

/// Returns the error for a file that cannot be read.
pub fn read_failed(path: &Path, e: &io::Error) -> EmbedError {
    EmbedError::ModelFile { path: path.to_owned(), reason: e.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["all-MiniLM-L6-v2", "a", "модель", "a b", "a..b"] {
            assert!(is_plain_name(good), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "/a", "a/", "./a", "../a", ".hidden", "a\0b", "a\nb"] {
            assert!(!is_plain_name(bad), "{bad:?}");
        }
    }

    #[test]
    fn what_leads_outside_or_is_no_file_is_refused() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("secret"), "{}").unwrap();
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        std::fs::create_dir(root.join("sub")).unwrap();
        std::fs::write(root.join("sub/inner.json"), "{}").unwrap();
        std::os::unix::fs::symlink(outside.path().join("secret"), root.join("out.json")).unwrap();
        std::os::unix::fs::symlink(outside.path(), root.join("outdir")).unwrap();
        std::os::unix::fs::symlink("sub/inner.json", root.join("in.json")).unwrap();
        std::os::unix::fs::symlink("nowhere", root.join("dangling.json")).unwrap();
        let folder = Folder::open(root).unwrap();
        let read = |name: &str| folder.read(Path::new(name), 100);

        assert_eq!(read("in.json").unwrap().as_deref(), Some(b"{}".as_slice()));
        assert_eq!(read("sub/inner.json").unwrap().as_deref(), Some(b"{}".as_slice()));
        assert!(read("absent.json").unwrap().is_none());
        assert!(read("sub/inner.json/deeper").unwrap().is_none());
        for (name, word) in [
            ("out.json", "outside"),
            ("outdir/secret", "outside"),
            ("../x", "outside"),
            ("sub/../../x", "outside"),
            ("/etc/hostname", "outside"),
            ("", "outside"),
            ("dangling.json", "No such file"),
            ("sub", "not a regular file"),
        ] {
            let error = read(name).unwrap_err().to_string();
            assert!(error.contains(word), "{name}: {error}");
        }
    }

    #[test]
    fn size_is_bounded() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("f"), vec![7; 100]).unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        assert_eq!(folder.read(Path::new("f"), 100).unwrap().unwrap().len(), 100);
        assert!(matches!(folder.read(Path::new("f"), 99), Err(EmbedError::ModelFile { .. })));
    }
}
