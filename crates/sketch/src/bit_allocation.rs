//! The number of bits of each component.
//!
//! This is transform coding: rotate to uncorrelated components, then spend bits by variance. Huang and
//! Schultheiss, "Block quantization of correlated Gaussian random variables", IEEE Trans. Communications
//! 1963.

use crate::trellis::{MAX_BITS, RESIDUAL_VARIANCE, STATE_BITS};

/// Returns the number of bits of each component for a budget in bits, the first state of [`STATE_BITS`]
/// included.
///
/// `weights` is the weighted variance of each component and must not increase. Each bit goes where it reduces
/// the weighted error most. The result does not increase either, and components without a bit are left out.
pub(crate) fn allocate_bits(weights: &[f64], budget: usize) -> Vec<u8> {
    if weights.first().is_none_or(|weight| *weight <= 0.0) || budget < STATE_BITS {
        return Vec::new();
    }
    let gain = |component: usize, bits: u8| match RESIDUAL_VARIANCE[usize::from(bits)..] {
        [before, after, ..] => weights[component] * (before - after),
        _ => 0.0,
    };
    let mut component_bits = vec![0u8; weights.len()];
    let mut gains: Vec<f64> = (0..component_bits.len()).map(|component| gain(component, 0)).collect();
    // The first component gets a whole state, whatever its number of bits.
    gains[0] = 0.0;
    for _ in STATE_BITS..budget {
        // Of several equal gains the first, so that the numbers of bits do not increase.
        let Some(best) = (0..gains.len()).rev().max_by(|a, b| gains[*a].total_cmp(&gains[*b])) else { break };
        if gains[best] <= 0.0 {
            break;
        }
        component_bits[best] += 1;
        gains[best] = gain(best, component_bits[best]);
    }
    component_bits[0] = component_bits.get(1).copied().unwrap_or(MAX_BITS).max(1);
    component_bits.truncate(component_bits.iter().take_while(|bits| **bits > 0).count());
    component_bits
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trellis;
    use proptest::prelude::*;

    #[test]
    fn bits_go_where_the_variance_is() {
        let component_bits = allocate_bits(&[16.0, 16.0, 4.0, 1.0, 0.01, 0.0], 18);
        assert_eq!(component_bits.len(), 4, "{component_bits:?}");
        assert_eq!(trellis::code_bits(&component_bits), 18);
        assert_eq!(allocate_bits(&[1.0, 1.0, 1.0], 1000), [MAX_BITS; 3]);
        assert_eq!(allocate_bits(&[1.0], 16), [MAX_BITS]);
        assert!(
            allocate_bits(&[], 100).is_empty()
                && allocate_bits(&[0.0], 100).is_empty()
                && allocate_bits(&[1.0], 9).is_empty()
        );
    }

    proptest! {
        #[test]
        fn bits_do_not_increase_and_fit(
            mut weights in prop::collection::vec(0f64..2.0, 1..200),
            budget in 0usize..800,
        ) {
            weights.sort_by(|a, b| b.total_cmp(a));
            let component_bits = allocate_bits(&weights, budget);
            prop_assert!(component_bits.windows(2).all(|pair| pair[0] >= pair[1]));
            prop_assert!(component_bits.iter().all(|bits| (1..=MAX_BITS).contains(bits)));
            prop_assert!(trellis::code_bits(&component_bits) <= budget);
        }
    }
}
