//! What a model's folder holds: its files, its settings and its fingerprint. Needs no ONNX Runtime.

use std::fs::File;
use std::io::{BufReader, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use leann_value::Role;

use crate::EmbedError;
use crate::folder::{Folder, MAX_GRAPH_BYTES, MAX_TOKENIZER_BYTES, MAX_WEIGHTS_BYTES, Stamp, is_plain_name};
use crate::mapped::MappedForm;
use crate::model_settings::{self, Gathered, ModelSettings, Pooling};
use crate::onnx_file::{self, Scan, ScanError};
use crate::store::{HeldCopy, ModelStore, Original, ShouldStop};

/// A model as its folder describes it.
#[derive(Clone, Debug)]
pub struct ModelSpec {
    name: String,
    folder: Folder,
    gathered: Gathered,
    tokenizer: PathBuf,
    /// The ONNX file, then the files it keeps weights in. Empty if only the mapped form exists.
    weights: Vec<Weights>,
    mapped: Option<MappedForm>,
    /// The identities of all of these files when the folder was opened.
    stamp: Stamp,
    /// The hashes of `weights`, once they are known.
    hashes: OnceLock<Vec<blake3::Hash>>,
    fingerprint: OnceLock<[u8; 32]>,
}

/// A file that weights come from.
#[derive(Clone, Debug)]
struct Weights {
    /// The file name.
    name: String,
    path: PathBuf,
    bytes: u64,
}

/// The files from which sessions of a model are made. The first refers to the others by name.
pub struct ServedFiles<'a> {
    originals: Vec<Original<'a>>,
    /// Whether it is the mapped form: optimized, with weights that stay in the file.
    pub mapped: bool,
}

/// The file that sessions are made from.
#[derive(Debug)]
pub struct SessionFile {
    pub path: PathBuf,
    /// Whether it is the mapped form: optimized, with weights that stay in the file.
    pub mapped: bool,
    /// The copy that holds the file, if the store has one.
    pub held: Option<HeldCopy>,
}

/// Where the ONNX file is, unless `leann.json` names another.
const MODEL_FILES: [&str; 2] = ["onnx/model.onnx", "model.onnx"];
/// The file name of the tokenizer.
const TOKENIZER: &str = "tokenizer.json";
/// What every fingerprint begins with. It changes when this crate embeds the texts of an unchanged folder
/// differently.
const FINGERPRINT_DOMAIN: &[u8] = b"leann model 2\0";

impl ModelSpec {
    /// Reads the settings of the model in `dir`. `dir` may be a link, but links inside it must not lead out
    /// of it.
    ///
    /// # Errors
    ///
    /// `ModelMissing` if there is no such folder, or no ONNX file or `tokenizer.json` in it; `ModelFile` for
    /// a file that cannot be read, is too large or has impossible content; `Unsupported` for a model whose
    /// settings this crate cannot follow.
    pub fn open(dir: &Path) -> Result<ModelSpec, EmbedError> {
        ModelSpec::open_stoppable(dir, &|| false)
    }

    fn open_stoppable(dir: &Path, should_stop: ShouldStop) -> Result<ModelSpec, EmbedError> {
        let folder = Folder::open(dir)?;
        let name =
            dir.file_name().or(folder.path().file_name()).unwrap_or_default().to_string_lossy().into_owned();
        let mut gathered = model_settings::gather(&folder, &name)?;
        let missing =
            |reason: &str| EmbedError::ModelMissing { path: dir.to_owned(), reason: reason.to_owned() };
        let Some((tokenizer, _)) = folder.find(Path::new(TOKENIZER), MAX_TOKENIZER_BYTES)? else {
            return Err(missing("it holds no tokenizer.json"));
        };
        let source = find_source(&folder, gathered.model_file.as_deref())?.ok_or_else(|| {
            missing("it holds neither onnx/model.onnx nor model.onnx, nor what leann.json names")
        })?;
        let mapped = MappedForm::find(&folder, &source)?;
        let (weights, scan) = find_weights(&folder, &source, should_stop)?;
        gathered.settings.one_row_per_run = gathered.one_row_per_run.unwrap_or_else(|| {
            let receipt = mapped.as_ref().map(|mapped| mapped.one_row_per_run);
            scan.map(|scan| scan.dynamic_quantization).or(receipt).unwrap_or(false)
        });
        let derived = mapped.iter().flat_map(MappedForm::paths);
        let files =
            weights.iter().map(|file| file.path.as_path()).chain(derived).chain([tokenizer.as_path()]);
        let stamp = Stamp::new(files)?;
        let (hashes, fingerprint) = (OnceLock::new(), OnceLock::new());
        Ok(ModelSpec { name, folder, gathered, tokenizer, weights, mapped, stamp, hashes, fingerprint })
    }

    /// Opens the model called `name` in a folder of models. `name` has to be the plain name of a folder in
    /// it: not a path, not `..`, not hidden, and not a link that leads out of `models`.
    ///
    /// # Errors
    ///
    /// Those of [`ModelSpec::open`]; `ModelMissing` for any other name.
    pub fn find(models: &Path, name: &str) -> Result<ModelSpec, EmbedError> {
        ModelSpec::find_stoppable(models, name, &|| false)
    }

    /// Opens a model like [`ModelSpec::find`], but fails with `Stopped` once `should_stop` returns true.
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

    /// Returns the names of the folders in `models` that look like models, sorted: those that hold a
    /// `tokenizer.json` or an ONNX file, or that cannot be read. Only opening and loading one shows whether
    /// it is usable.
    ///
    /// # Errors
    ///
    /// `ModelMissing` if `models` cannot be read.
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

    /// Returns the folder's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the folder's real path.
    pub fn dir(&self) -> &Path {
        self.folder.path()
    }

    /// Returns the number of components of a vector that the settings give. [`crate::Model::dim`] is the true
    /// one.
    pub fn dim(&self) -> Option<usize> {
        self.gathered.dim
    }

    /// Returns the number of tokens, prompt and special tokens included, to which longer texts are truncated.
    pub fn max_tokens(&self) -> usize {
        self.settings().max_tokens
    }

    /// Returns the pooling, or None if no file names one. The ONNX file itself has to give a vector for each
    /// text then.
    pub fn pooling(&self) -> Option<Pooling> {
        self.settings().pooling
    }

    /// Returns what is put before a text of this role, often nothing.
    pub fn prompt(&self, role: Role) -> &str {
        match role {
            Role::Query => &self.settings().query_prompt,
            Role::Passage => &self.settings().passage_prompt,
        }
    }

    /// Returns whether the settings ask for vectors of unit length. This crate scales all vectors to it.
    pub fn normalizes(&self) -> bool {
        self.gathered.normalizes
    }

    /// Returns the blake3 hash of all that decides which vector a text gets: the weights, the tokenizer and
    /// the settings. It is equal for copies of a folder, and with or without the mapped form.
    ///
    /// The first call reads all weights, later calls nothing.
    ///
    /// # Errors
    ///
    /// `ModelFile` if a file cannot be read.
    pub fn fingerprint(&self) -> Result<[u8; 32], EmbedError> {
        self.fingerprint_stoppable(&ModelStore::none(), &|| false)
    }

    /// Computes the [`ModelSpec::fingerprint`] with the hashes that the store remembers. Fails with `Stopped`
    /// once `should_stop` returns true.
    pub fn fingerprint_stoppable(
        &self,
        store: &ModelStore,
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

    /// Fails with `ModelFile` if a file was replaced since the spec was opened: what was read before and what
    /// is read after would belong to two models.
    pub(crate) fn check_unchanged(&self) -> Result<(), EmbedError> {
        self.stamp.check()
    }

    /// Returns the settings that decide which vector a text gets.
    pub(crate) fn settings(&self) -> &ModelSettings {
        &self.gathered.settings
    }

    /// Returns the step after the encoder that only the ONNX file can do, if there is one.
    pub(crate) fn extra_step(&self) -> Option<&str> {
        self.gathered.extra_step.as_deref()
    }

    /// Returns the path of `tokenizer.json`, for error messages.
    pub(crate) fn tokenizer_path(&self) -> &Path {
        &self.tokenizer
    }

    /// Reads `tokenizer.json`.
    pub(crate) fn tokenizer_json(&self) -> Result<Vec<u8>, EmbedError> {
        let read = self.folder.read(Path::new(TOKENIZER), MAX_TOKENIZER_BYTES)?;
        read.ok_or_else(|| EmbedError::ModelFile {
            path: self.tokenizer.clone(),
            reason: "it is no longer there".to_owned(),
        })
    }

    /// Returns the size of all weights in bytes, which is the memory that a copy of them takes.
    pub(crate) fn weight_bytes(&self) -> u64 {
        self.weights.iter().map(|file| file.bytes).sum()
    }

    /// Returns the files to make sessions from: the mapped form for the CPU if it was made from these
    /// weights, or else the ONNX file. Verifies the hashes of the mapped form.
    pub(crate) fn served_files(
        &self,
        cpu: bool,
        store: &ModelStore,
        should_stop: ShouldStop,
    ) -> Result<ServedFiles<'_>, EmbedError> {
        let hashes = self.hashes(store, should_stop)?;
        if cpu
            && let Some(mapped) = &self.mapped
            && hashes == mapped.sources()
        {
            mapped.verify(store, should_stop)?;
            return Ok(ServedFiles { originals: mapped.originals().into(), mapped: true });
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
        Ok(ServedFiles { originals, mapped: false })
    }

    /// Returns the hashes of the weights. Without an ONNX file, those in the receipt of the mapped form.
    fn hashes(&self, store: &ModelStore, should_stop: ShouldStop) -> Result<&[blake3::Hash], EmbedError> {
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

impl ServedFiles<'_> {
    /// Returns the hashes of the files.
    pub fn hashes(&self) -> impl Iterator<Item = &blake3::Hash> {
        self.originals.iter().map(|file| &file.hash)
    }

    /// Copies the files if the store has a folder, and returns the first of the copies, or else of the
    /// originals. A single file is read and not mapped, so it needs no copy.
    pub fn file(&self, store: &ModelStore, should_stop: ShouldStop) -> Result<SessionFile, EmbedError> {
        let first = &self.originals[0];
        let held = if self.originals.len() > 1 { store.copy(&self.originals, should_stop)? } else { None };
        let path = match &held {
            Some(held) => held.folder().join(first.name),
            None => first.path.to_owned(),
        };
        Ok(SessionFile { path, mapped: self.mapped, held })
    }
}

/// Returns whether [`ModelSpec::list`] names a folder.
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

/// Returns the ONNX file's path relative to the folder. The file may be absent if its mapped form exists.
fn find_source(folder: &Folder, named: Option<&Path>) -> Result<Option<PathBuf>, EmbedError> {
    let usual = MODEL_FILES.map(Path::new);
    let candidates = match named {
        Some(ref named) => std::slice::from_ref(named),
        None => usual.as_slice(),
    };
    for candidate in candidates {
        if folder.find(candidate, MAX_GRAPH_BYTES)?.is_some() {
            return Ok(Some(candidate.to_path_buf()));
        }
    }
    for candidate in candidates {
        if MappedForm::find(folder, candidate)?.is_some() {
            return Ok(Some(candidate.to_path_buf()));
        }
    }
    Ok(None)
}

/// Returns the ONNX file, the files it keeps weights in, and what a scan of it found. Nothing if it is
/// absent.
fn find_weights(
    folder: &Folder,
    source: &Path,
    should_stop: ShouldStop,
) -> Result<(Vec<Weights>, Option<Scan>), EmbedError> {
    let Some((path, bytes)) = folder.find(source, MAX_GRAPH_BYTES)? else { return Ok((Vec::new(), None)) };
    let refuse = |reason: String| EmbedError::ModelFile { path: path.clone(), reason };
    let file = File::open(&path).map_err(|e| refuse(e.to_string()))?;
    let scan = onnx_file::scan(BufReader::new(file), bytes, should_stop).map_err(|e| match e {
        ScanError::Stopped => EmbedError::Stopped,
        e => refuse(e.to_string()),
    })?;
    let file_name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut weights = vec![Weights { name: file_name(source), path: path.clone(), bytes }];
    for name in &scan.external {
        if !is_plain_name(name) {
            return Err(refuse(format!("it keeps weights in \"{name}\", which is not a file beside it")));
        }
        let Some((path, bytes)) = folder.find(&source.with_file_name(name), MAX_WEIGHTS_BYTES)? else {
            return Err(refuse(format!("it keeps weights in \"{name}\", which is not there")));
        };
        weights.push(Weights { name: name.clone(), path, bytes });
    }
    Ok((weights, Some(scan)))
}
