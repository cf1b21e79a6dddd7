//! Pools the vectors of a text's tokens into one vector of unit length.

use crate::model_settings::Pooling;

/// Pools the tokens of one text into `out`, of length `dim`.
///
/// `hidden` is `length x dim`, row-major; its first `tokens` rows, at least one, are the text's and the rest
/// padding.
fn pool(pooling: Pooling, hidden: &[f32], tokens: usize, out: &mut [f32]) {
    let dim = out.len();
    let token = |at: usize| &hidden[at * dim..(at + 1) * dim];
    match pooling {
        Pooling::Cls => out.copy_from_slice(token(0)),
        Pooling::LastToken => out.copy_from_slice(token(tokens - 1)),
        Pooling::Mean => {
            // The sum has the direction of the mean, and the caller scales its length away.
            out.copy_from_slice(token(0));
            for at in 1..tokens {
                for (sum, x) in out.iter_mut().zip(token(at)) {
                    *sum += x;
                }
            }
        }
    }
}

/// Pools the tokens of one text as [`pool`] does and scales the result to unit length. Returns false if it
/// has no direction: a length that is zero, infinite or undefined.
#[must_use]
pub fn pool_to_unit_length(pooling: Pooling, hidden: &[f32], tokens: usize, out: &mut [f32]) -> bool {
    pool(pooling, hidden, tokens, out);
    leann_vector::normalize(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn each_pooling_ignores_padding() {
        let hidden = [1.0, 2.0, 3.0, 4.0, 5.0, 9.0, f32::NAN, f32::NAN];
        let pooled = |pooling| {
            let mut out = [0.0; 2];
            pool(pooling, &hidden, 3, &mut out);
            out
        };
        assert_eq!(pooled(Pooling::Cls), [1.0, 2.0]);
        assert_eq!(pooled(Pooling::LastToken), [5.0, 9.0]);
        assert_eq!(pooled(Pooling::Mean), [9.0, 15.0]);
    }

    /// Scales the vector of a text of one token.
    fn normalize(vector: &mut [f32]) -> bool {
        let hidden = vector.to_vec();
        pool_to_unit_length(Pooling::Mean, &hidden, 1, vector)
    }

    #[test]
    fn what_has_no_direction_is_refused() {
        for mut bad in [[0.0, 0.0], [f32::NAN, 1.0], [f32::INFINITY, 1.0], [1.0, f32::NEG_INFINITY]] {
            assert!(!normalize(&mut bad), "{bad:?}");
        }
    }

    #[test]
    fn large_and_small_numbers_keep_their_direction() {
        for mut vector in [[1.5e38f32, 2e38], [3e-20, 4e-20], [3e-40, 4e-40]] {
            assert!(normalize(&mut vector));
            assert!((vector[0] - 0.6).abs() < 1e-4 && (vector[1] - 0.8).abs() < 1e-4, "{vector:?}");
        }
    }

    proptest! {
        #[test]
        fn unit_length(mut vector in prop::collection::vec(-1e6f32..1e6, 1..500)) {
            prop_assume!(vector.iter().any(|&x| x != 0.0));
            prop_assert!(normalize(&mut vector));
            let length = vector.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
            prop_assert!((length - 1.0).abs() < 1e-6, "{length}");
        }
    }
}
