//! Calls everything that a sketcher offers. The property tests and a fuzz target share it.

use leann_sketch::Sketcher;

/// Calls every method of a sketcher and its queries, with the given bytes as sketches.
pub fn exercise(sketcher: &Sketcher, sketches: &[u8]) {
    let embedding: Vec<f32> = (0..sketcher.dim()).map(|i| (i % 3) as f32 - 1.0).collect();
    let mut projected = vec![0.0; sketcher.components()];
    sketcher.project(&embedding, &mut projected);
    let mut sketch = vec![0; sketcher.sketch_bytes()];
    sketcher.encode(&embedding, &mut sketch);
    let query = sketcher.query(&embedding);
    let mut estimates = Vec::new();
    query.score(sketches, &mut estimates);
    assert_eq!(estimates.len(), sketches.len() / sketcher.sketch_bytes());
    for sketch in sketches.chunks_exact(sketcher.sketch_bytes()) {
        sketcher.decode(sketch, &mut projected);
        sketcher.is_untrained_sketch(sketch);
        assert!((0.0..=1.0).contains(&sketcher.fit(sketch)), "a share");
    }
    assert!(query.strangeness() >= 1.0);
    let again = Sketcher::from_bytes(&sketcher.to_bytes()).expect("what was read can be written and read");
    assert_eq!(again.to_bytes(), sketcher.to_bytes());
}
