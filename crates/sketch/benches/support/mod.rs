//! What the measuring programs share: matrices in files, and work on all cores.

use leann_vector::dot;
use std::path::Path;

/// Rows of `dim` values, one after the other.
pub struct Matrix {
    pub values: Vec<f32>,
    pub dim: usize,
}

impl Matrix {
    pub fn rows(&self) -> std::slice::ChunksExact<'_, f32> {
        self.values.chunks_exact(self.dim)
    }
}

/// Returns for each query its similarity to every row.
pub fn similarities(rows: &Matrix, queries: &Matrix) -> Vec<Vec<f32>> {
    parallel(queries.rows().collect(), |query| rows.rows().map(|row| dot(query, row)).collect())
}

/// Maps items on all cores and returns the results in order.
pub fn parallel<T: Send, R: Send>(items: Vec<T>, work: impl Fn(T) -> R + Sync) -> Vec<R> {
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    let share = items.len().div_ceil(threads).max(1);
    let mut items = items.into_iter();
    let work = &work;
    std::thread::scope(|scope| {
        let mut handles = Vec::new();
        loop {
            let part: Vec<T> = items.by_ref().take(share).collect();
            if part.is_empty() {
                break;
            }
            handles.push(scope.spawn(move || part.into_iter().map(work).collect::<Vec<R>>()));
        }
        handles.into_iter().flat_map(|handle| handle.join().expect("a worker failed")).collect()
    })
}

/// Reads a two-dimensional little-endian f16 array in row order (version 1 of NumPy's format), and scales its
/// rows to unit length.
pub fn read_npy(path: &Path) -> Result<Matrix, Box<dyn std::error::Error>> {
    let bytes = std::fs::read(path)?;
    let header_end = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let header = std::str::from_utf8(&bytes[10..header_end])?;
    if !header.contains("'<f2'") || !header.contains("'fortran_order': False") {
        return Err("not an f16 array in row order".into());
    }
    let shape =
        header.split("'shape': (").nth(1).and_then(|rest| rest.split(')').next()).ok_or("no shape")?;
    let dim = shape.split(',').nth(1).ok_or("not two-dimensional")?.trim().parse::<usize>()?;
    let decode = |pair: &[u8]| half::f16::from_le_bytes([pair[0], pair[1]]).to_f32();
    let mut values: Vec<f32> = bytes[header_end..].chunks_exact(2).map(decode).collect();
    for row in values.chunks_exact_mut(dim) {
        if !leann_vector::normalize(row) {
            return Err("a row has length zero".into());
        }
    }
    Ok(Matrix { values, dim })
}
