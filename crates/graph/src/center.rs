//! The center of a node page, as its hub keeps it.

/// Where the nodes of a page lie.
#[derive(Clone, PartialEq, Debug)]
pub struct Center {
    /// Mean of the decoded sketches in the leading components.
    pub values: Vec<f32>,
    /// Root mean square distance of the nodes to it.
    pub spread: f32,
}

impl Center {
    /// Returns the center of projected vectors, cut to `len` components; the origin if there are none.
    ///
    /// The sums are plain ones in the order of the vectors, so that an index comes out the same as ever.
    pub fn from_vectors<'a>(vectors: impl Iterator<Item = &'a [f32]> + Clone, len: usize) -> Center {
        let mut values = vec![0.0f32; len];
        let mut count = 0usize;
        for vector in vectors.clone() {
            values.iter_mut().zip(vector).for_each(|(sum, value)| *sum += value);
            count += 1;
        }
        let scale = 1.0 / count.max(1) as f32;
        values.iter_mut().for_each(|value| *value *= scale);
        let squares: f32 = vectors
            .map(|vector| vector.iter().zip(&values).map(|(a, b)| (a - b) * (a - b)).sum::<f32>())
            .sum();
        Center { spread: (squares * scale).sqrt(), values }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mean_and_spread() {
        let vectors = [[1.0f32, 4.0, 9.0], [3.0, 4.0, -9.0]];
        let center = Center::from_vectors(vectors.iter().map(|vector| &vector[..]), 2);
        assert_eq!(center, Center { values: vec![2.0, 4.0], spread: 1.0 });
    }

    #[test]
    fn nothing_lies_at_the_origin() {
        let center = Center::from_vectors(std::iter::empty(), 3);
        assert_eq!(center, Center { values: vec![0.0; 3], spread: 0.0 });
    }

    #[test]
    fn one_vector_is_its_own_center() {
        let vector = [0.25f32, -0.5];
        let center = Center::from_vectors(std::iter::once(&vector[..]), 2);
        assert_eq!(center, Center { values: vector.to_vec(), spread: 0.0 });
    }
}
