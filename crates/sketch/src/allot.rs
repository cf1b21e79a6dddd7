//! Transform coding: how many bits each direction gets.
//!
//! Huang and Schultheiss, "Block quantization of correlated Gaussian random variables", IEEE Trans. Communications 1963: rotate to
//! uncorrelated directions, then give bits where the variance is.

use crate::trellis::{LEFT, MAX_WIDTH, STATE_BITS};

/// Widths for directions of the given falling weights (variance times importance), so that together they take at most `bits` bits. Each bit
/// goes where it removes the most. Widths fall as the weights do; directions at the end that get none are left out.
pub(crate) fn allot(weights: &[f64], bits: usize) -> Vec<u8> {
    if weights.first().is_none_or(|weight| *weight <= 0.0) || bits < STATE_BITS {
        return Vec::new();
    }
    let gain = |direction: usize, width: u8| match LEFT[usize::from(width)..] {
        [before, after, ..] => weights[direction] * (before - after),
        _ => 0.0,
    };
    let mut widths = vec![0u8; weights.len()];
    let mut gains: Vec<f64> = (0..widths.len()).map(|direction| gain(direction, 0)).collect();
    // The first direction's bits are given: those of a whole state.
    gains[0] = 0.0;
    for _ in STATE_BITS..bits {
        // The first of several that gain as much, so that widths never rise.
        let Some(best) = (0..gains.len()).rev().max_by(|a, b| gains[*a].total_cmp(&gains[*b])) else { break };
        if gains[best] <= 0.0 {
            break;
        }
        widths[best] += 1;
        gains[best] = gain(best, widths[best]);
    }
    widths[0] = widths.get(1).copied().unwrap_or(MAX_WIDTH).max(1);
    widths.truncate(widths.iter().take_while(|width| **width > 0).count());
    widths
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trellis;
    use proptest::prelude::*;

    #[test]
    fn bits_go_where_the_variance_is() {
        let widths = allot(&[16.0, 16.0, 4.0, 1.0, 0.01, 0.0], 18);
        assert_eq!(widths.len(), 4, "{widths:?}");
        assert_eq!(trellis::bits(&widths), 18);
        assert_eq!(allot(&[1.0, 1.0, 1.0], 1000), [MAX_WIDTH; 3]);
        assert_eq!(allot(&[1.0], 16), [MAX_WIDTH]);
        assert!(allot(&[], 100).is_empty() && allot(&[0.0], 100).is_empty() && allot(&[1.0], 9).is_empty());
    }

    proptest! {
        #[test]
        fn widths_fall_and_fit(mut weights in prop::collection::vec(0f64..2.0, 1..200), bits in 0usize..800) {
            weights.sort_by(|a, b| b.total_cmp(a));
            let widths = allot(&weights, bits);
            prop_assert!(widths.windows(2).all(|pair| pair[0] >= pair[1]));
            prop_assert!(widths.iter().all(|width| (1..=MAX_WIDTH).contains(width)));
            prop_assert!(trellis::bits(&widths) <= bits);
        }
    }
}
