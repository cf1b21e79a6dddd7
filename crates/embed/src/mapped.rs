//! The mapped form of a model: its graph as ONNX Runtime optimized it, and one file with its weights, packed
//! as the kernels of the CPU read them, which every process maps instead of copying.
//!
//! For `NAME.onnx`, `tools/make_model.py` writes `NAME.mapped.onnx`, `NAME.mapped.bin` and, last, the receipt
//! `NAME.mapped.json`. The receipt has the hashes of the files that the form was made from and of the two
//! files of the form, and vouches that both give the same vectors, which `make_model.py` has tested.
//!
//! The form is used only if all hashes fit. If the sources differ, the form is another model's and is
//! ignored. If its own files differ, it is damaged, which is an error. The `.onnx` stays the model, and its
//! hash is what an index remembers, so an index outlives a mapped form that is written again for another CPU.
//! Without the `.onnx`, the hash in the receipt takes its place.
//!
//! The alternative is a file in ORT format, mapped in the same way. Compared with it, this form takes 40 ms
//! more at the first use, in which ONNX Runtime packs the weights only to find that the file has them, and
//! about the same private memory. A query takes less than half the time and a batch a tenth less, because the
//! ORT format cannot hold packed weights.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::EmbedError;
use crate::folder::{Folder, MAX_GRAPH_BYTES, MAX_WEIGHTS_BYTES};
use crate::store::{ModelStore, Original, ShouldStop};

/// The content of `NAME.mapped.json`.
#[derive(Clone, Debug, Deserialize)]
struct Receipt {
    format: u32,
    source: Vec<SourceFile>,
    graph: DerivedFile,
    data: DerivedFile,
    one_row_per_run: bool,
}

/// A file that the form was made from.
#[derive(Clone, Debug, Deserialize)]
struct SourceFile {
    blake3: String,
}

/// A file of the form.
#[derive(Clone, Debug, Deserialize)]
struct DerivedFile {
    file: String,
    bytes: u64,
    blake3: String,
}

/// The format of receipts that is read. Format 1 had no hashes of the form's own files.
const RECEIPT_FORMAT: u32 = 2;

/// A mapped form whose files all exist and have the right size.
#[derive(Clone, Debug)]
pub struct MappedForm {
    receipt: PathBuf,
    /// Hashes of the files it was made from: the ONNX file, then the files with its weights, by name.
    sources: Vec<blake3::Hash>,
    graph: Part,
    data: Part,
    /// Whether a row's vector depends on the rows it shares a run with.
    pub one_row_per_run: bool,
}

/// A file of the form, and the hash it has to have.
#[derive(Clone, Debug)]
struct Part {
    name: String,
    path: PathBuf,
    hash: blake3::Hash,
}

impl MappedForm {
    /// Returns the mapped form of `source`, a path relative to the folder, or None if there is no receipt for
    /// it.
    ///
    /// # Errors
    ///
    /// `ModelFile` if the receipt cannot be read, or if a file that it names is missing or has another size.
    pub fn find(folder: &Folder, source: &Path) -> Result<Option<MappedForm>, EmbedError> {
        let beside = |extension: &str| source.with_extension(extension);
        let Some(receipt): Option<Receipt> = folder.json(&beside("mapped.json"))? else { return Ok(None) };
        let path = folder.path().join(beside("mapped.json"));
        let refuse = |reason: String| EmbedError::ModelFile { path: path.clone(), reason };
        if receipt.format != RECEIPT_FORMAT {
            return Err(refuse("it is of another format: write the mapped form again".to_owned()));
        }
        let hash = |hex: &str| blake3::Hash::from_hex(hex).map_err(|e| refuse(e.to_string()));
        let sources = receipt.source.iter().map(|source| hash(&source.blake3)).collect::<Result<_, _>>()?;
        let part = |derived: DerivedFile, extension: &str, limit: u64| {
            let relative = beside(extension);
            if relative.file_name() != Some(OsStr::new(&derived.file)) {
                return Err(refuse("it names other files than its own".to_owned()));
            }
            match folder.find(&relative, limit)? {
                Some((path, bytes)) if bytes == derived.bytes => {
                    Ok(Part { name: derived.file, path, hash: hash(&derived.blake3)? })
                }
                _ => Err(mismatch(&folder.path().join(relative), &path)),
            }
        };
        Ok(Some(MappedForm {
            sources,
            graph: part(receipt.graph, "mapped.onnx", MAX_GRAPH_BYTES)?,
            data: part(receipt.data, "mapped.bin", MAX_WEIGHTS_BYTES)?,
            one_row_per_run: receipt.one_row_per_run,
            receipt: path.clone(),
        }))
    }

    /// Returns the hashes of the files it was made from.
    pub fn sources(&self) -> &[blake3::Hash] {
        &self.sources
    }

    /// Returns the paths of the graph and of the weights.
    pub fn paths(&self) -> [&Path; 2] {
        [&self.graph.path, &self.data.path]
    }

    /// Fails with `ModelFile` for a file that does not have the hash in the receipt.
    pub fn verify(&self, store: &ModelStore, should_stop: ShouldStop) -> Result<(), EmbedError> {
        for part in [&self.graph, &self.data] {
            if store.hash(&part.path, should_stop)? != part.hash {
                return Err(mismatch(&part.path, &self.receipt));
            }
        }
        Ok(())
    }

    /// Returns the files to copy, the graph first. They keep their names, because the graph refers to the
    /// other by name.
    pub fn originals(&self) -> [Original<'_>; 2] {
        [&self.graph, &self.data].map(|part| Original {
            path: &part.path,
            name: part.name.as_ref(),
            hash: part.hash,
        })
    }
}

/// Returns the error for a file that is not the one the receipt was written for.
fn mismatch(file: &Path, receipt: &Path) -> EmbedError {
    let receipt = receipt.file_name().unwrap_or_default().display();
    EmbedError::ModelFile {
        path: file.to_owned(),
        reason: format!(
            "it is not the file that {receipt} vouches for: copy the model again, or write its mapped form \
             again (make model FOLDER=...), or remove {receipt}"
        ),
    }
}
