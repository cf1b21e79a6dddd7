//! What several tests need: clustered random vectors, and real embeddings where there are some.
#![allow(dead_code, reason = "every test binary uses another part")]

use half::f16;
use std::path::PathBuf;

/// Unit vectors around random centres, the same for the same seed.
pub fn clustered(n: usize, d: usize, clusters: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let mut uniform = move || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    let centres: Vec<f32> = (0..clusters * d).map(|_| uniform()).collect();
    let mut vectors = Vec::with_capacity(n * d);
    for row in 0..n {
        let centre = &centres[row % clusters * d..(row % clusters + 1) * d];
        let vector: Vec<f32> = centre.iter().map(|c| c + 0.7 * uniform()).collect();
        let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
        vectors.extend(vector.iter().map(|x| x / length));
    }
    vectors
}

pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

/// The f16 array of an .npy file and its columns; None if it is not there.
pub fn read_npy(path: &std::path::Path) -> Option<(Vec<f16>, usize)> {
    let bytes = std::fs::read(path).ok()?;
    let header_length = u16::from_le_bytes([*bytes.get(8)?, *bytes.get(9)?]) as usize;
    let header = std::str::from_utf8(bytes.get(10..10 + header_length)?).ok()?;
    let shape = header.split("'shape': (").nth(1)?.split(')').next()?;
    let dim: usize = shape.split(',').nth(1)?.trim().parse().ok()?;
    let values =
        bytes[10 + header_length..].chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]])).collect();
    Some((values, dim))
}

/// Rows and queries of a data set below the folder that LEANN_DATA names.
pub fn real(set: &str) -> Option<(Vec<f16>, Vec<f16>, usize)> {
    let folder = PathBuf::from(std::env::var_os("LEANN_DATA")?).join(set);
    let (rows, dim) = read_npy(&folder.join("embeddings.f16.npy"))?;
    let (queries, _) = read_npy(&folder.join("query_embeddings.f16.npy"))?;
    Some((rows, queries, dim))
}
