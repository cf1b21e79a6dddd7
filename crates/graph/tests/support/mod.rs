//! What several tests need: clustered random vectors, hubs over them, and real embeddings where there are
//! some.
#![allow(dead_code, reason = "every test binary uses another part")]

use half::f16;
use leann_graph::in_memory::InMemoryHubs;
use leann_graph::{Hub, HubRef, NodePageRef, entry_hubs, link_hubs};
use leann_vector::Rng;
use std::path::PathBuf;

/// A number of [0, 1).
pub fn uniform(rng: &mut Rng) -> f32 {
    (rng.next() >> 40) as f32 / (1u64 << 24) as f32
}

/// Unit vectors around random centers, the same for the same seed.
pub fn clustered(n: usize, d: usize, clusters: usize, seed: u64) -> Vec<f32> {
    let mut rng = Rng::new(seed);
    let mut uniform = move || uniform(&mut rng) - 0.5;
    let centers: Vec<f32> = (0..clusters * d).map(|_| uniform()).collect();
    let mut vectors = Vec::with_capacity(n * d);
    for row in 0..n {
        let center = &centers[row % clusters * d..(row % clusters + 1) * d];
        let mut vector: Vec<f32> = center.iter().map(|c| c + 0.7 * uniform()).collect();
        assert!(leann_vector::normalize(&mut vector));
        vectors.extend(vector);
    }
    vectors
}

/// A hub of the node page at block 100 + `index`.
pub fn hub(index: u32, generation: u32, center: &[f32], links: Vec<HubRef>) -> Hub {
    let node_page = NodePageRef { block: 100 + index, generation };
    Hub { at: HubRef::default(), node_page, center: center.to_vec(), spread: 0.5, links }
}

/// Linked hubs over these centers (row-major, of `d` values each).
pub fn linked(centers: &[f32], d: usize, max_links: usize, entries: usize) -> InMemoryHubs {
    let mut hubs = InMemoryHubs::new(25);
    let links = link_hubs(centers, d, max_links, &|| false).unwrap();
    for (index, (center, links)) in centers.chunks_exact(d).zip(links).enumerate() {
        let links = links.into_iter().map(|link| hubs.place(link as usize)).collect();
        hubs.push(hub(index as u32, 0, center, links));
    }
    hubs.entries =
        entry_hubs(centers, d, entries).unwrap().into_iter().map(|hub| hubs.place(hub as usize)).collect();
    hubs
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
