//! What the tests share: the library, the models, folders of models to damage.

#![allow(dead_code, reason = "each test file uses a part of it")]

pub mod onnx;

use std::fs;
use std::path::{Path, PathBuf};

use leann_embed::{Embedded, Job, Library, LoadOptions, Model, ModelSpec, Role};
use serde::Deserialize;
use tempfile::TempDir;

/// Returns the path in an environment variable, or else one in the repository's .build. Panics if `part` of
/// it does not exist, naming the command that makes it.
fn built(variable: &str, default: &str, part: &str, command: &str) -> PathBuf {
    let root = match std::env::var_os(variable) {
        Some(value) if !value.is_empty() => PathBuf::from(value),
        _ => repository().join(".build").join(default),
    };
    let path = if part.is_empty() { root } else { root.join(part) };
    assert!(path.exists(), "there is no \"{}\": run \"{command}\", or set {variable}", path.display());
    path
}

/// The ONNX Runtime library: LEANN_ONNXRUNTIME, or the one that `make deps` fetches.
pub fn library_path() -> PathBuf {
    built("LEANN_ONNXRUNTIME", "onnxruntime/libonnxruntime.so", "", "make deps")
}

pub fn library() -> &'static Library {
    Library::load(&library_path()).expect("ONNX Runtime loads")
}

/// The folder of the default model.
pub fn default_model() -> PathBuf {
    model("all-MiniLM-L6-v2")
}

/// The folder of the default model in 8 bits.
pub fn int8_model() -> PathBuf {
    model("all-MiniLM-L6-v2-int8")
}

/// A model in LEANN_MODEL_DIR, or the one that `make model` makes.
fn model(name: &str) -> PathBuf {
    built("LEANN_MODEL_DIR", "models", name, &format!("make model MODEL={name}"))
}

/// A text with its tokens and its embedding, which tools/reference/derive.py computes without this crate.
#[derive(Deserialize)]
pub struct Reference {
    pub text: String,
    pub tokens: Vec<u32>,
    pub embedding: Vec<f32>,
}

pub fn references() -> Vec<Reference> {
    let path = repository().join("tools/reference/all-MiniLM-L6-v2.json");
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

pub fn repository() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    root.canonicalize().expect("the crate is in the repository")
}

/// A committed tiny model: `tiny-hash` or `tiny-hash-b`.
pub fn tiny(name: &str) -> PathBuf {
    repository().join("tests/models").join(name)
}

/// Opens and loads a model.
pub fn load(dir: &Path) -> Model {
    let spec = ModelSpec::open(dir).expect("the model opens");
    Model::load(library(), &spec, &LoadOptions::default()).expect("the model loads")
}

/// Returns the error with which a model is refused when it is opened or loaded.
pub fn refusal(dir: &Path) -> leann_embed::EmbedError {
    let loaded = ModelSpec::open(dir).and_then(|spec| Model::load(library(), &spec, &LoadOptions::default()));
    loaded.map(|_| ()).expect_err("the model is refused")
}

/// Copies a model's folder, to be changed.
pub fn copy(dir: &Path) -> TempDir {
    let target = tempfile::tempdir().expect("a temporary folder");
    copy_into(dir, target.path());
    target
}

fn copy_into(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.path().is_dir() {
            true => copy_into(&entry.path(), &target),
            false => {
                let modified = entry.metadata().unwrap().modified().unwrap();
                fs::copy(entry.path(), &target).unwrap();
                fs::File::options().append(true).open(&target).unwrap().set_modified(modified).unwrap();
            }
        }
    }
}

/// Copies the tiny model with another ONNX file.
pub fn with_onnx(content: &[u8]) -> TempDir {
    let dir = copy(&tiny("tiny-hash"));
    fs::write(dir.path().join("model.onnx"), content).unwrap();
    dir
}

/// Embeds texts on some threads.
pub fn embed(model: &Model, texts: &[&str], role: Role, threads: usize) -> Embedded {
    model.embed(texts, role, &Job::uninterrupted(threads)).expect("the texts are embedded")
}

/// Embeds one text as a passage.
pub fn passage(model: &Model, text: &str) -> Vec<f32> {
    embed(model, &[text], Role::Passage, 1).vectors
}

/// Returns the inner product, summed in `f64`, because tests compare it with 1 to within 1e-6.
pub fn similarity(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum()
}

/// Returns the largest difference between components of two vectors.
pub fn difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max)
}

/// Returns the number of threads of this process that this crate started.
pub fn worker_threads() -> usize {
    let names = fs::read_dir("/proc/self/task").unwrap().flatten();
    names
        .filter(|task| {
            fs::read_to_string(task.path().join("comm")).is_ok_and(|name| name.trim() == "leann-embed")
        })
        .count()
}
