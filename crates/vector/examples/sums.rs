//! Scales two vectors to unit length and shows that their distance and inner product agree.
//! `cargo run -p leann-vector --example sums`.

use leann_vector::{Rng, dot, normalize, squared_distance};

fn main() {
    let mut rng = Rng::new(7);
    let mut random = || (0..384).map(|_| rng.below(1_000) as f32 - 500.0).collect::<Vec<f32>>();
    let (mut a, mut b) = (random(), random());
    assert!(normalize(&mut a) && normalize(&mut b), "both have a direction");
    let (similarity, squared) = (dot(&a, &b), squared_distance(&a, &b));
    println!("inner product {similarity:.4}, squared distance {squared:.4}");
    // |a - b|² = |a|² + |b|² - 2 a·b, and both have unit length.
    assert!((squared - (2.0 - 2.0 * similarity)).abs() < 1e-5);
}
