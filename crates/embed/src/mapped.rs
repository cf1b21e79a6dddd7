//! The mapped form of a model: the graph as ONNX Runtime optimised it, and beside it one file with its weights, packed
//! as the CPU's kernels want them, which every process maps instead of copying.
//!
//! `tools/make_model.py` writes it beside `NAME.onnx` as `NAME.mapped.onnx`, `NAME.mapped.bin` and, last, the receipt
//! `NAME.mapped.json`, which says from which weights it was made. It is used only if that is so: the `.onnx` stays the
//! model, and its hash is what an index remembers. The receipt's hash stands in where the `.onnx` was left out.
//!
//! Against an ORT-format file mapped the same way this costs 40 ms more at the first use, in which ONNX Runtime packs
//! the weights only to find that the file has them, and about as little private memory; a query then takes less than
//! half the time and a batch a tenth less, because the ORT format cannot hold packed weights.

use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::Deserialize;

use crate::EmbedError;
use crate::folder::{Folder, WEIGHTS_LIMIT, hash_file};

/// A file that weights come from.
#[derive(Clone, Debug)]
pub struct Weights {
    /// Relative to the folder of the ONNX file.
    pub name: String,
    pub path: PathBuf,
    pub bytes: u64,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Receipt {
    format: u32,
    source: Vec<SourceFile>,
    graph: DerivedFile,
    data: DerivedFile,
    pub one_row_per_run: bool,
}

#[derive(Clone, Debug, Deserialize)]
struct SourceFile {
    file: String,
    bytes: u64,
    /// When the file was last written, in nanoseconds since 1970.
    modified: u64,
    blake3: String,
}

#[derive(Clone, Debug, Deserialize)]
struct DerivedFile {
    file: String,
    bytes: u64,
}

const FORMAT: u32 = 1;

/// A mapped form whose files are all there.
#[derive(Clone, Debug)]
pub struct Mapped {
    pub graph: PathBuf,
    pub data: PathBuf,
    receipt: Receipt,
}

impl Mapped {
    /// The mapped form beside `source`, a path relative to the folder; None when there is none or it is incomplete.
    pub fn find(folder: &Folder, source: &Path) -> Result<Option<Mapped>, EmbedError> {
        let beside = |extension: &str| source.with_extension(extension);
        let Some(receipt): Option<Receipt> = folder.json(&beside("mapped.json"))? else { return Ok(None) };
        let refuse = |reason: &str| EmbedError::ModelFile {
            path: folder.path().join(beside("mapped.json")),
            reason: reason.to_owned(),
        };
        if receipt.format != FORMAT {
            return Err(refuse("it is of another format: write the mapped form again"));
        }
        let part = |derived: &DerivedFile, extension: &str| {
            let relative = beside(extension);
            if relative.file_name() != Some(derived.file.as_ref()) {
                return Err(refuse("it names other files than its own"));
            }
            let found = folder.find(&relative, WEIGHTS_LIMIT)?;
            Ok(found.filter(|(_, bytes)| *bytes == derived.bytes).map(|(path, _)| path))
        };
        match (part(&receipt.graph, "mapped.onnx")?, part(&receipt.data, "mapped.bin")?) {
            (Some(graph), Some(data)) => Ok(Some(Mapped { graph, data, receipt })),
            // Half a mapped form is as good as none: the source is still the model.
            _ => Ok(None),
        }
    }

    pub fn receipt(&self) -> &Receipt {
        &self.receipt
    }
}

impl Receipt {
    /// Hashes of the files the mapped form was made from: the ONNX file, then the files it keeps weights in, by name.
    pub fn hashes(&self) -> Result<Vec<blake3::Hash>, blake3::HexError> {
        self.source.iter().map(|source| blake3::Hash::from_hex(&source.blake3)).collect()
    }

    /// The hash this receipt has for a file, if neither its size nor its time of writing has changed since: reading 90
    /// MB again in every process would take longer than loading the model does.
    fn known_hash(&self, weights: &Weights) -> Option<blake3::Hash> {
        let entry = self.source.iter().find(|entry| entry.file == weights.name)?;
        let modified = weights.path.metadata().ok()?.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
        let same = entry.bytes == weights.bytes && u128::from(entry.modified) == modified.as_nanos();
        if same { blake3::Hash::from_hex(&entry.blake3).ok() } else { None }
    }
}

/// The hash of every file of weights, from the receipt where it can be trusted, else by reading the file.
pub fn hashes(weights: &[Weights], receipt: Option<&Receipt>) -> Result<Vec<blake3::Hash>, EmbedError> {
    let hash = |file: &Weights| match receipt.and_then(|receipt| receipt.known_hash(file)) {
        Some(known) => Ok(known),
        None => hash_file(&file.path),
    };
    weights.iter().map(hash).collect()
}
