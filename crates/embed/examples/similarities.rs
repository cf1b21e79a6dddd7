//! Embeds three sentences with a model and prints how similar each two of them are.
//!
//! ```text
//! cargo run -p leann-embed --example similarities [FOLDER]
//! ```
//!
//! FOLDER is a model's folder, by default the one that `make model` makes. ONNX Runtime is the library that
//! LEANN_ONNXRUNTIME names, by default the one that `make deps` fetches.

use std::path::{Path, PathBuf};

use leann_embed::{EmbedError, Job, Library, LoadOptions, Model, ModelSpec, Role};

const SENTENCES: [&str; 3] = [
    "Vaccines teach the immune system to recognize a virus.",
    "After an injection the body can fight the infection.",
    "The bank raised its interest rate.",
];

fn main() -> Result<(), EmbedError> {
    let build = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.build");
    let library = std::env::var_os("LEANN_ONNXRUNTIME")
        .map_or_else(|| build.join("onnxruntime/libonnxruntime.so"), PathBuf::from);
    let folder =
        std::env::args_os().nth(1).map_or_else(|| build.join("models/all-MiniLM-L6-v2"), PathBuf::from);

    let spec = ModelSpec::open(&folder)?;
    let model = Model::load(Library::load(&library)?, &spec, &LoadOptions::default())?;
    let embedded = model.embed(&SENTENCES, Role::Passage, &Job::uninterrupted(2))?;

    println!("{}: {} dimensions, {} tokens", model.name(), model.dim(), embedded.tokens);
    let vectors: Vec<&[f32]> = embedded.vectors.chunks_exact(model.dim()).collect();
    for (first, second) in [(0, 1), (0, 2), (1, 2)] {
        // The vectors have unit length, so their inner product is the cosine.
        let cosine = leann_vector::dot(vectors[first], vectors[second]);
        println!("{cosine:6.3}  {}\n        {}", SENTENCES[first], SENTENCES[second]);
    }
    Ok(())
}
