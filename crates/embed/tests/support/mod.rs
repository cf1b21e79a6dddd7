//! What the tests share: the library, the tiny models, folders to spoil.

#![allow(dead_code, reason = "each test file uses a part of it")]

pub mod onnx;

use std::fs;
use std::path::{Path, PathBuf};

use leann_embed::{Embedded, Job, Library, LoadOptions, Model, ModelSpec, Role};
use serde::Deserialize;
use tempfile::TempDir;

fn variable(name: &str, what: &str) -> PathBuf {
    match std::env::var_os(name) {
        Some(value) if !value.is_empty() => PathBuf::from(value),
        _ => panic!("set {name} to {what} to run this test"),
    }
}

pub fn library_path() -> PathBuf {
    variable("LEANN_ONNXRUNTIME", "the path of libonnxruntime.so (tools/fetch_onnxruntime.py)")
}

pub fn library() -> &'static Library {
    Library::load(&library_path()).expect("ONNX Runtime loads")
}

/// The folder of the default model.
pub fn default_model() -> PathBuf {
    models().join("all-MiniLM-L6-v2")
}

/// The folder of the default model in 8 bits.
pub fn int8_model() -> PathBuf {
    models().join("all-MiniLM-L6-v2-int8")
}

fn models() -> PathBuf {
    variable(
        "LEANN_MODEL_DIR",
        "the folder of all-MiniLM-L6-v2 and all-MiniLM-L6-v2-int8 (tools/make_model.py)",
    )
}

/// See tools/reference/derive.py.
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
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A committed tiny model: `tiny-hash` or `tiny-hash-b`.
pub fn tiny(name: &str) -> PathBuf {
    repository().join("tests/models").join(name)
}

pub fn load(dir: &Path) -> Model {
    let spec = ModelSpec::open(dir).expect("the model opens");
    Model::load(library(), &spec, &LoadOptions::default()).expect("the model loads")
}

/// What keeps a model from being opened or loaded.
pub fn refusal(dir: &Path) -> leann_embed::EmbedError {
    let loaded = ModelSpec::open(dir).and_then(|spec| Model::load(library(), &spec, &LoadOptions::default()));
    loaded.map(|_| ()).expect_err("the model is refused")
}

/// A copy of a model's folder, to be changed.
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

/// The tiny model with another ONNX file.
pub fn with_onnx(content: &[u8]) -> TempDir {
    let dir = copy(&tiny("tiny-hash"));
    fs::write(dir.path().join("model.onnx"), content).unwrap();
    dir
}

pub fn embed(model: &Model, texts: &[&str], role: Role, threads: usize) -> Embedded {
    model.embed(texts, role, &Job::uninterrupted(threads)).expect("the texts are embedded")
}

pub fn passage(model: &Model, text: &str) -> Vec<f32> {
    embed(model, &[text], Role::Passage, 1).vectors
}

pub fn similarity(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum()
}

/// The largest difference between two vectors' numbers.
pub fn difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max)
}

/// Threads of this process that this crate started.
pub fn worker_threads() -> usize {
    let names = fs::read_dir("/proc/self/task").unwrap().flatten();
    names
        .filter(|task| {
            fs::read_to_string(task.path().join("comm")).is_ok_and(|name| name.trim() == "leann-embed")
        })
        .count()
}
