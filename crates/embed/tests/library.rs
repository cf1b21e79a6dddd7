//! Loads ONNX Runtime: after a failure, another path may be tried. A process loads it once, so this is one
//! test.

mod support;

use std::path::Path;

use leann_embed::{EmbedError, Library};

#[test]
fn a_failed_load_can_be_followed_by_another() {
    let missing = Path::new("/nonexistent/libonnxruntime.so");
    assert!(matches!(Library::load(missing), Err(EmbedError::LibraryMissing { path }) if path == missing));
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(Library::load(dir.path()), Err(EmbedError::LibraryMissing { .. })));

    let text = dir.path().join("libonnxruntime.so");
    std::fs::write(&text, "not a library").unwrap();
    assert!(matches!(Library::load(&text), Err(EmbedError::LibraryUnusable { .. })));
    let other = ["/lib", "/lib64", "/usr/lib"]
        .iter()
        .flat_map(|dir| [format!("{dir}/x86_64-linux-gnu/libm.so.6"), format!("{dir}/libm.so.6")])
        .find(|path| Path::new(path).exists());
    if let Some(other) = other {
        let refused = Library::load(Path::new(&other));
        assert!(matches!(refused, Err(EmbedError::LibraryUnusable { .. })), "{refused:?}");
    }

    let library = support::library();
    assert!(library.build_info().contains("ORT"), "{}", library.build_info());
    assert_eq!(std::env::var("ORT_DISABLE_TELEMETRY").as_deref(), Ok("1"));
    // The library that is loaded stays.
    assert!(std::ptr::eq(Library::load(missing).unwrap(), library));
}
