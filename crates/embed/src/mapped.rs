//! The mapped form of a model: the graph as ONNX Runtime optimised it, and beside it one file with its weights, packed
//! as the CPU's kernels want them, which every process maps instead of copying.
//!
//! `tools/make_model.py` writes it beside `NAME.onnx` as `NAME.mapped.onnx`, `NAME.mapped.bin` and, last, the receipt
//! `NAME.mapped.json`. The receipt has the hashes of what the form was made from and of the two files themselves, and
//! vouches that both give the same vectors, which `make_model.py` has tried. It is used only if all of them are what it
//! says: with other sources it is another model's and left alone; with other files it is damaged or mixed up, and an
//! error. The `.onnx` stays the model, and its hash is what an index remembers, so that an index outlives a mapped form
//! that is written again for another CPU. The receipt's hash stands in where the `.onnx` was left out.
//!
//! Against an ORT-format file mapped the same way this costs 40 ms more at the first use, in which ONNX Runtime packs
//! the weights only to find that the file has them, and about as little private memory; a query then takes less than
//! half the time and a batch a tenth less, because the ORT format cannot hold packed weights.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::EmbedError;
use crate::folder::{Folder, GRAPH_LIMIT, WEIGHTS_LIMIT};
use crate::store::{Original, ShouldStop, Store};

#[derive(Clone, Debug, Deserialize)]
struct Receipt {
    format: u32,
    source: Vec<SourceFile>,
    graph: DerivedFile,
    data: DerivedFile,
    one_row_per_run: bool,
}

#[derive(Clone, Debug, Deserialize)]
struct SourceFile {
    blake3: String,
}

#[derive(Clone, Debug, Deserialize)]
struct DerivedFile {
    file: String,
    bytes: u64,
    blake3: String,
}

/// Format 1 had no hashes of the files themselves.
const FORMAT: u32 = 2;

/// A mapped form whose files are all there, of the right size.
#[derive(Clone, Debug)]
pub struct Mapped {
    receipt: PathBuf,
    /// Of the files it was made from: the ONNX file, then the files it keeps weights in, by name.
    sources: Vec<blake3::Hash>,
    graph: Part,
    data: Part,
    pub one_row_per_run: bool,
}

#[derive(Clone, Debug)]
struct Part {
    name: String,
    path: PathBuf,
    hash: blake3::Hash,
}

impl Mapped {
    /// The mapped form beside `source`, a path relative to the folder; None when there is no receipt. `ModelFile` when
    /// a receipt is there and what it vouches for is not.
    pub fn find(folder: &Folder, source: &Path) -> Result<Option<Mapped>, EmbedError> {
        let beside = |extension: &str| source.with_extension(extension);
        let Some(receipt): Option<Receipt> = folder.json(&beside("mapped.json"))? else { return Ok(None) };
        let path = folder.path().join(beside("mapped.json"));
        let refuse = |reason: String| EmbedError::ModelFile { path: path.clone(), reason };
        if receipt.format != FORMAT {
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
        Ok(Some(Mapped {
            sources,
            graph: part(receipt.graph, "mapped.onnx", GRAPH_LIMIT)?,
            data: part(receipt.data, "mapped.bin", WEIGHTS_LIMIT)?,
            one_row_per_run: receipt.one_row_per_run,
            receipt: path.clone(),
        }))
    }

    pub fn sources(&self) -> &[blake3::Hash] {
        &self.sources
    }

    pub fn paths(&self) -> [&Path; 2] {
        [&self.graph.path, &self.data.path]
    }

    /// `ModelFile` naming the file that is not the one the receipt vouches for.
    pub fn verify(&self, store: &Store, should_stop: ShouldStop) -> Result<(), EmbedError> {
        for part in [&self.graph, &self.data] {
            if store.hash(&part.path, should_stop)? != part.hash {
                return Err(mismatch(&part.path, &self.receipt));
            }
        }
        Ok(())
    }

    /// The graph's file first. Its name counts: it names the data's.
    pub fn originals(&self) -> [Original<'_>; 2] {
        [&self.graph, &self.data].map(|part| Original {
            path: &part.path,
            name: part.name.as_ref(),
            hash: part.hash,
        })
    }
}

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
