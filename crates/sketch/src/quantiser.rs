//! Transform coding: how many bits each direction gets, which byte they lie in, and the levels they stand for.
//!
//! Huang and Schultheiss, "Block quantization of correlated Gaussian random variables", IEEE Trans. Communications 1963: rotate to
//! uncorrelated directions, then give bits where the variance is.

use crate::code::Slot;

/// Share of a Gaussian's variance that is left after a Lloyd-Max quantiser of that many bits (Max, "Quantizing for minimum
/// distortion", IRE Trans. Information Theory 1960, table I).
const LEFT: [f64; 9] = [1.0, 0.3634, 0.1175, 0.03454, 0.009497, 0.002499, 0.000641, 0.000163, 0.0000412];

/// Gives `bits` bits one by one, each to the direction where it removes the most variance. Directions get at most `max_width`; bits that
/// nobody can use are left over.
pub(crate) fn allot(variances: &[f64], bits: usize, max_width: u8) -> Vec<u8> {
    let gain = |direction: usize, width: u8| {
        let left = &LEFT[usize::from(width)..];
        if width < max_width { variances[direction] * (left[0] - left[1]) } else { 0.0 }
    };
    let mut widths = vec![0u8; variances.len()];
    let mut gains: Vec<f64> = (0..widths.len()).map(|direction| gain(direction, 0)).collect();
    for _ in 0..bits {
        let Some(best) = (0..gains.len()).max_by(|a, b| gains[*a].total_cmp(&gains[*b])) else { break };
        if gains[best] <= 0.0 {
            break;
        }
        widths[best] += 1;
        gains[best] = gain(best, widths[best]);
    }
    widths
}

/// Puts directions of the given widths into `bytes` bytes, none across a boundary: widest first, each into the fullest byte that still
/// has room (best fit). A direction that fits nowhere takes the largest room there is, which may be none (width 0).
pub(crate) fn pack(widths: &[u8], bytes: usize) -> Vec<Slot> {
    let mut used = vec![0u8; bytes];
    let mut slots = vec![Slot { byte: 0, shift: 0, width: 0 }; widths.len()];
    let mut order: Vec<usize> = (0..widths.len()).filter(|direction| widths[*direction] > 0).collect();
    order.sort_by_key(|direction| std::cmp::Reverse(widths[*direction]));
    for direction in order {
        let width = widths[direction];
        let fullest = (0..bytes).filter(|byte| used[*byte] + width <= 8).max_by_key(|byte| used[*byte]);
        let Some(byte) = fullest.or_else(|| (0..bytes).min_by_key(|byte| used[*byte])) else { break };
        let width = width.min(8 - used[byte]);
        slots[direction] = Slot { byte: byte as u16, shift: used[byte], width };
        used[byte] += width;
    }
    slots
}

/// `count` ascending levels that minimise the squared error over `sorted` ascending values (Lloyd, "Least squares quantization in
/// PCM", 1957). `sorted` must not be empty.
pub(crate) fn lloyd_max(sorted: &[f32], count: usize) -> Vec<f32> {
    let mut sums = vec![0f64];
    for value in sorted {
        sums.push(sums[sums.len() - 1] + f64::from(*value));
    }
    let quantile = |q: f64| sorted[((q * sorted.len() as f64) as usize).min(sorted.len() - 1)];
    let mut levels: Vec<f32> = (0..count).map(|i| quantile((i as f64 + 0.5) / count as f64)).collect();
    for _ in 0..60 {
        let mut from = 0;
        for index in 0..count {
            let to = match levels.get(index + 1) {
                Some(next) => {
                    let edge = (levels[index] + next) / 2.0;
                    sorted.partition_point(|value| *value <= edge).max(from)
                }
                None => sorted.len(),
            };
            if to > from {
                levels[index] = ((sums[to] - sums[from]) / (to - from) as f64) as f32;
            }
            from = to;
        }
        // An empty cell keeps its level, which its neighbours may have overtaken.
        levels.sort_by(f32::total_cmp);
    }
    levels
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bits_go_where_the_variance_is() {
        let widths = allot(&[16.0, 4.0, 1.0, 0.01, 0.0], 8, 5);
        assert!(widths.windows(2).all(|pair| pair[0] >= pair[1]), "{widths:?}");
        assert_eq!(widths.iter().sum::<u8>(), 8);
        assert_eq!(widths[4], 0);
        assert_eq!(allot(&[1.0, 1.0], 100, 5), [5, 5]);
        assert_eq!(allot(&[], 100, 5), [0u8; 0]);
    }

    #[test]
    fn levels_of_a_gaussian_are_the_published_ones() {
        // Twelve uniform numbers make a Gaussian that is good enough for two digits.
        let mut random = crate::random::Random::new(1);
        let mut uniform = || (random.next() >> 40) as f32 / (1u32 << 24) as f32;
        let mut sample: Vec<f32> =
            (0..200_000).map(|_| (0..12).map(|_| uniform()).sum::<f32>() - 6.0).collect();
        sample.sort_by(f32::total_cmp);
        for (level, expected) in lloyd_max(&sample, 4).iter().zip([-1.51, -0.4528, 0.4528, 1.51]) {
            assert!((level - expected).abs() < 0.02, "{level} for {expected}");
        }
    }

    proptest! {
        #[test]
        fn packing_never_overlaps_and_wastes_little(widths in prop::collection::vec(0u8..=5, 0..300)) {
            let bits: usize = widths.iter().map(|w| usize::from(*w)).sum();
            let bytes = bits.div_ceil(8);
            let slots = pack(&widths, bytes);
            let mut taken = vec![0u8; bytes];
            for (slot, width) in slots.iter().zip(&widths) {
                prop_assert!(slot.width <= *width && slot.shift + slot.width <= 8);
                if slot.width > 0 {
                    let mask = (((1u16 << slot.width) - 1) as u8) << slot.shift;
                    prop_assert_eq!(taken[usize::from(slot.byte)] & mask, 0);
                    taken[usize::from(slot.byte)] |= mask;
                }
            }
            // With enough narrow directions to fill the gaps nothing at all is lost.
            let narrow = widths.iter().filter(|w| **w == 1).count();
            if narrow >= 3 * bytes {
                prop_assert_eq!(slots.iter().map(|s| usize::from(s.width)).sum::<usize>(), bits);
            }
        }

        #[test]
        fn levels_ascend(mut values in prop::collection::vec(-10f32..10.0, 1..50), width in 1u32..6) {
            values.sort_by(f32::total_cmp);
            let levels = lloyd_max(&values, 1 << width);
            prop_assert!(levels.windows(2).all(|pair| pair[0] <= pair[1]));
            prop_assert!(levels.iter().all(|level| level.is_finite()));
        }
    }
}
