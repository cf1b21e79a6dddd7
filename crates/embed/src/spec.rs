//! What a model's folder holds: its files, its settings, its fingerprint. Needs no ONNX Runtime.

use std::fs::File;
use std::io::{BufReader, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::folder::{Folder, GRAPH_LIMIT, Stamp, TOKENIZER_LIMIT, WEIGHTS_LIMIT, is_plain_name};
use crate::mapped::Mapped;
use crate::onnx::{self, Scan};
use crate::settings::{self, Gathered, Pooling, Settings};
use crate::store::{Held, Original, ShouldStop, Store};
use crate::{EmbedError, Role};

/// A model as its folder describes it.
#[derive(Clone, Debug)]
pub struct ModelSpec {
    name: String,
    folder: Folder,
    gathered: Gathered,
    tokenizer: PathBuf,
    /// The ONNX file first, then the files it keeps weights in; empty when only the mapped form is there.
    weights: Vec<Weights>,
    mapped: Option<Mapped>,
    /// Of all of these files, taken before anything but their names mattered.
    stamp: Stamp,
    hashes: OnceLock<Vec<blake3::Hash>>,
    fingerprint: OnceLock<[u8; 32]>,
}

/// A file that weights come from.
#[derive(Clone, Debug)]
struct Weights {
    /// Without its folder.
    name: String,
    path: PathBuf,
    bytes: u64,
}

/// The files that a model is to be served from: the first names the others.
pub struct Serving<'a> {
    originals: Vec<Original<'a>>,
    /// Already optimised, with weights that stay in the file.
    pub mapped: bool,
}

/// The file to make sessions from.
#[derive(Debug)]
pub struct SessionFile {
    pub path: PathBuf,
    /// Already optimised, with weights that stay in the file.
    pub mapped: bool,
    /// The copy that it lies in, if it lies in one.
    pub held: Option<Held>,
}

/// The weights, unless `leann.json` says otherwise.
const MODEL_FILES: [&str; 2] = ["onnx/model.onnx", "model.onnx"];
const TOKENIZER: &str = "tokenizer.json";
/// Changes when the same folder would give other vectors than before.
const FINGERPRINT_DOMAIN: &[u8] = b"leann model 2\0";

impl ModelSpec {
    /// Reads the settings in `dir`. A link to a folder is followed; links inside may not lead out of it.
    ///
    /// `ModelMissing` when there is no such folder, or no ONNX file or `tokenizer.json` in it; `ModelFile` naming the
    /// file that cannot be read, is too large or says something it cannot mean; `Unsupported` for a model this crate
    /// would embed wrongly.
    pub fn open(dir: &Path) -> Result<ModelSpec, EmbedError> {
        ModelSpec::open_stoppable(dir, &|| false)
    }

    fn open_stoppable(dir: &Path, should_stop: ShouldStop) -> Result<ModelSpec, EmbedError> {
        let folder = Folder::open(dir)?;
        let name =
            dir.file_name().or(folder.path().file_name()).unwrap_or_default().to_string_lossy().into_owned();
        let mut gathered = settings::gather(&folder, &name)?;
        let missing =
            |reason: &str| EmbedError::ModelMissing { path: dir.to_owned(), reason: reason.to_owned() };
        let Some((tokenizer, _)) = folder.find(Path::new(TOKENIZER), TOKENIZER_LIMIT)? else {
            return Err(missing("it holds no tokenizer.json"));
        };
        let source = find_source(&folder, gathered.model_file.as_deref())?.ok_or_else(|| {
            missing("it holds neither onnx/model.onnx nor model.onnx, nor what leann.json names")
        })?;
        let mapped = Mapped::find(&folder, &source)?;
        let (weights, scan) = find_weights(&folder, &source, should_stop)?;
        gathered.settings.one_row_per_run = gathered.one_row_per_run.unwrap_or_else(|| {
            let receipt = mapped.as_ref().map(|mapped| mapped.one_row_per_run);
            scan.map(|scan| scan.dynamic_quantisation).or(receipt).unwrap_or(false)
        });
        let derived = mapped.iter().flat_map(Mapped::paths);
        let files =
            weights.iter().map(|file| file.path.as_path()).chain(derived).chain([tokenizer.as_path()]);
        let stamp = Stamp::of(files)?;
        let (hashes, fingerprint) = (OnceLock::new(), OnceLock::new());
        Ok(ModelSpec { name, folder, gathered, tokenizer, weights, mapped, stamp, hashes, fingerprint })
    }

    /// Opens the model called `name` in a folder of models. `name` has to be the plain name of a folder in it: no
    /// path, no `..`, not hidden, and not a link that leads out of `models`.
    pub fn find(models: &Path, name: &str) -> Result<ModelSpec, EmbedError> {
        ModelSpec::find_stoppable(models, name, &|| false)
    }

    /// The same, given up with `Stopped` when `should_stop` says so.
    pub fn find_stoppable(
        models: &Path,
        name: &str,
        should_stop: ShouldStop,
    ) -> Result<ModelSpec, EmbedError> {
        let dir = models.join(name);
        let missing = |reason: String| EmbedError::ModelMissing { path: dir.clone(), reason };
        if !is_plain_name(name) {
            return Err(missing("that is not the name of a folder".to_owned()));
        }
        let root = models.canonicalize().map_err(|e| missing(e.to_string()))?;
        let real = dir.canonicalize().map_err(|e| missing(e.to_string()))?;
        if !real.starts_with(&root) {
            return Err(missing("it is a link that leads outside the folder of models".to_owned()));
        }
        ModelSpec::open_stoppable(&dir, should_stop)
    }

    /// The names of the folders in `models` that look like models, sorted: they hold a `tokenizer.json` or an ONNX file,
    /// or cannot be looked into. Whether one is a usable model shows when it is opened and loaded.
    pub fn list(models: &Path) -> Result<Vec<String>, EmbedError> {
        let missing =
            |e: std::io::Error| EmbedError::ModelMissing { path: models.to_owned(), reason: e.to_string() };
        let mut names = Vec::new();
        for entry in models.read_dir().map_err(missing)? {
            let entry = entry.map_err(missing)?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            if is_plain_name(&name) && looks_like_a_model(&entry.path()) {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    /// The folder's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The folder's real path.
    pub fn dir(&self) -> &Path {
        self.folder.path()
    }

    /// Numbers per vector, when the settings say so; what the model really gives shows when it is loaded.
    pub fn dim(&self) -> Option<usize> {
        self.gathered.dim
    }

    /// Longer texts are cut to this many tokens, special tokens and prompt counted.
    pub fn max_tokens(&self) -> usize {
        self.settings().max_tokens
    }

    /// None where no file says: usable only if the ONNX file gives a vector for each text itself.
    pub fn pooling(&self) -> Option<Pooling> {
        self.settings().pooling
    }

    /// What is put before a text of this role; often nothing.
    pub fn prompt(&self, role: Role) -> &str {
        match role {
            Role::Query => &self.settings().query_prompt,
            Role::Passage => &self.settings().passage_prompt,
        }
    }

    /// Whether the model itself asks for vectors of unit length. They are scaled to it in any case.
    pub fn normalises(&self) -> bool {
        self.gathered.normalises
    }

    /// blake3 of all that decides which vector a text gets: the weights, the tokenizer and the settings. Equal for
    /// copies of a folder, and with or without the mapped form.
    ///
    /// Reads the whole of the weights the first time; later calls are free.
    pub fn fingerprint(&self) -> Result<[u8; 32], EmbedError> {
        self.fingerprint_stoppable(&Store::none(), &|| false)
    }

    /// The same, reading only what the store does not remember, given up with `Stopped` when `should_stop` says so.
    pub fn fingerprint_stoppable(
        &self,
        store: &Store,
        should_stop: ShouldStop,
    ) -> Result<[u8; 32], EmbedError> {
        if let Some(known) = self.fingerprint.get() {
            return Ok(*known);
        }
        let mut hasher = blake3::Hasher::new();
        hasher.update(FINGERPRINT_DOMAIN);
        let mut item = |bytes: &[u8]| {
            hasher.update(&(bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        for hash in self.hashes(store, should_stop)? {
            item(hash.as_bytes());
        }
        item(blake3::hash(&self.tokenizer_json()?).as_bytes());
        let settings = serde_json::to_vec(self.settings())
            .map_err(|e| EmbedError::ModelFile { path: self.dir().to_owned(), reason: e.to_string() })?;
        item(&settings);
        Ok(*self.fingerprint.get_or_init(|| *hasher.finalize().as_bytes()))
    }

    /// `ModelFile` if any of the model's files is no longer the one that was there when the spec was opened: what was
    /// read before and what is read after would be two models.
    pub(crate) fn check_unchanged(&self) -> Result<(), EmbedError> {
        self.stamp.check()
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.gathered.settings
    }

    pub(crate) fn extra_step(&self) -> Option<&str> {
        self.gathered.extra_step.as_deref()
    }

    pub(crate) fn tokenizer_path(&self) -> &Path {
        &self.tokenizer
    }

    pub(crate) fn tokenizer_json(&self) -> Result<Vec<u8>, EmbedError> {
        let read = self.folder.read(Path::new(TOKENIZER), TOKENIZER_LIMIT)?;
        read.ok_or_else(|| EmbedError::ModelFile {
            path: self.tokenizer.clone(),
            reason: "it is no longer there".to_owned(),
        })
    }

    /// Size of all weights in bytes, for the memory a copy of them takes.
    pub(crate) fn weight_bytes(&self) -> u64 {
        self.weights.iter().map(|file| file.bytes).sum()
    }

    /// The mapped form for the CPU if it was made from these weights, else the ONNX file. Verified.
    pub(crate) fn serving(
        &self,
        cpu: bool,
        store: &Store,
        should_stop: ShouldStop,
    ) -> Result<Serving<'_>, EmbedError> {
        let hashes = self.hashes(store, should_stop)?;
        if cpu
            && let Some(mapped) = &self.mapped
            && hashes == mapped.sources()
        {
            mapped.verify(store, should_stop)?;
            return Ok(Serving { originals: mapped.originals().into(), mapped: true });
        }
        if self.weights.is_empty() {
            return Err(EmbedError::ModelMissing {
                path: self.dir().to_owned(),
                reason: "it holds no ONNX file, and its mapped form serves only the CPU".to_owned(),
            });
        }
        let originals = self
            .weights
            .iter()
            .zip(hashes)
            .map(|(file, hash)| Original { path: &file.path, name: file.name.as_ref(), hash: *hash })
            .collect();
        Ok(Serving { originals, mapped: false })
    }

    fn hashes(&self, store: &Store, should_stop: ShouldStop) -> Result<&[blake3::Hash], EmbedError> {
        if self.hashes.get().is_none() {
            let hashes = match &self.mapped {
                Some(mapped) if self.weights.is_empty() => mapped.sources().to_vec(),
                _ => {
                    let hash = |file: &Weights| store.hash(&file.path, should_stop);
                    self.weights.iter().map(hash).collect::<Result<_, _>>()?
                }
            };
            return Ok(self.hashes.get_or_init(|| hashes));
        }
        Ok(self.hashes.get().map(Vec::as_slice).unwrap_or_default())
    }
}

impl Serving<'_> {
    /// Of the content of the files.
    pub fn hashes(&self) -> impl Iterator<Item = &blake3::Hash> {
        self.originals.iter().map(|file| &file.hash)
    }

    /// A copy of the files, if the store has a place for it, or they themselves. A file alone is read and not mapped, so
    /// it needs no copy.
    pub fn file(&self, store: &Store, should_stop: ShouldStop) -> Result<SessionFile, EmbedError> {
        let first = &self.originals[0];
        let held = if self.originals.len() > 1 { store.copy(&self.originals, should_stop)? } else { None };
        let path = match &held {
            Some(held) => held.folder().join(first.name),
            None => first.path.to_owned(),
        };
        Ok(SessionFile { path, mapped: self.mapped, held })
    }
}

/// Whether a folder of the folder of models is to be listed.
fn looks_like_a_model(dir: &Path) -> bool {
    let there = |file: &str| match dir.join(file).symlink_metadata() {
        Ok(_) => true,
        Err(e) => e.kind() == ErrorKind::PermissionDenied,
    };
    let holds_onnx = |dir: &Path| match dir.read_dir() {
        Ok(entries) => entries.flatten().any(|entry| entry.path().extension() == Some("onnx".as_ref())),
        Err(e) => e.kind() == ErrorKind::PermissionDenied,
    };
    there(TOKENIZER) || holds_onnx(dir) || holds_onnx(&dir.join("onnx"))
}

/// The ONNX file's path relative to the folder; it may be absent if its mapped form is there.
fn find_source(folder: &Folder, named: Option<&Path>) -> Result<Option<PathBuf>, EmbedError> {
    let usual = MODEL_FILES.map(Path::new);
    let candidates = match named {
        Some(ref named) => std::slice::from_ref(named),
        None => usual.as_slice(),
    };
    for candidate in candidates {
        if folder.find(candidate, GRAPH_LIMIT)?.is_some() {
            return Ok(Some(candidate.to_path_buf()));
        }
    }
    for candidate in candidates {
        if Mapped::find(folder, candidate)?.is_some() {
            return Ok(Some(candidate.to_path_buf()));
        }
    }
    Ok(None)
}

/// The ONNX file and the files it keeps weights in, and what a look through it found; nothing if it is absent.
fn find_weights(
    folder: &Folder,
    source: &Path,
    should_stop: ShouldStop,
) -> Result<(Vec<Weights>, Option<Scan>), EmbedError> {
    let Some((path, bytes)) = folder.find(source, GRAPH_LIMIT)? else { return Ok((Vec::new(), None)) };
    let refuse = |reason: String| EmbedError::ModelFile { path: path.clone(), reason };
    let file = File::open(&path).map_err(|e| refuse(e.to_string()))?;
    let scan = onnx::scan(BufReader::new(file), bytes, should_stop).map_err(refuse)?;
    let scan = scan.ok_or(EmbedError::Stopped)?;
    let file_name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut weights = vec![Weights { name: file_name(source), path: path.clone(), bytes }];
    for name in &scan.external {
        if !is_plain_name(name) {
            return Err(refuse(format!("it keeps weights in \"{name}\", which is not a file beside it")));
        }
        let Some((path, bytes)) = folder.find(&source.with_file_name(name), WEIGHTS_LIMIT)? else {
            return Err(refuse(format!("it keeps weights in \"{name}\", which is not there")));
        };
        weights.push(Weights { name: name.clone(), path, bytes });
    }
    Ok((weights, Some(scan)))
}
