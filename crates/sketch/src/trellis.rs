//! Trellis-coded quantization, which loses less than a scalar quantizer with the same bits.
//!
//! All values of a vector are coded together as one string of bits. Each value takes `bits` new bits, but is
//! looked up by the last [`STATE_BITS`] bits, its *state*, most of which belong to the values before it. The
//! Viterbi algorithm finds the string whose values are nearest to the vector. Decoding is one look-up per
//! value, anywhere in the string, and carries no state along.
//!
//! The method is that of Marcellin and Fischer, "Trellis coded quantization of memoryless and Gauss-Markov
//! sources", IEEE Trans. Communications 1990. The form whose states are windows of the bit string ("bitshift
//! trellis"), with trained codebooks, is that of Tseng et al., "QTIP: quantization with trellises and
//! incoherence processing", NeurIPS 2024.

use std::sync::OnceLock;

/// Bits by which a value is looked up.
pub(crate) const STATE_BITS: usize = 10;

/// The most new bits per value.
pub(crate) const MAX_BITS: u8 = 6;

/// States, which is also the number of values in a codebook.
pub(crate) const STATES: usize = 1 << STATE_BITS;

/// The integer that stands for 1 in the stored codebooks.
pub(crate) const UNIT: f32 = 4096.0;

/// Share of a Gaussian's variance that is lost in coding, by number of new bits per value. The test
/// `codebooks_are_good` measures it.
pub(crate) const RESIDUAL_VARIANCE: [f64; MAX_BITS as usize + 1] =
    [1.0, 0.2767, 0.0783, 0.0211, 0.00565, 0.00192, 0.00058];

/// The codebooks: for each number of bits 1024 values as little-endian 16-bit integers. The test `regenerate`
/// trained them on Gaussian values. They are part of the stored format: with other codebooks, existing
/// sketches would be unreadable.
static CODEBOOKS: &[u8; 2 * MAX_BITS as usize * STATES] = include_bytes!("codebooks.bin");

/// Returns the values of all codebooks, one after the other; see [`codebook_start`].
pub(crate) fn codebooks() -> &'static [f32] {
    static CODEWORDS: OnceLock<Vec<f32>> = OnceLock::new();
    CODEWORDS.get_or_init(|| {
        CODEBOOKS
            .chunks_exact(2)
            .map(|pair| f32::from(i16::from_le_bytes([pair[0], pair[1]])) / UNIT)
            .collect()
    })
}

/// Returns the value of a state in the codebook for a number of bits, in units of `1 / UNIT`.
pub(crate) const fn codeword(bits: u8, state: usize) -> i16 {
    let at = 2 * (codebook_start(bits) + state);
    i16::from_le_bytes([CODEBOOKS[at], CODEBOOKS[at + 1]])
}

/// Returns the index at which the codebook for a number of bits starts.
pub(crate) const fn codebook_start(bits: u8) -> usize {
    (bits as usize - 1) * STATES
}

/// Finds the states whose values, each times its scale, are nearest to `targets` in the sum of squares. There
/// is one scale and one number of bits per target.
///
/// The first value has a whole state of 10 bits to itself, whatever its number of bits.
pub fn encode(targets: &[f32], scales: &[f32], component_bits: &[u8]) -> Vec<u16> {
    encode_with(codebooks(), targets, scales, component_bits)
}

/// Encodes with other codebooks.
fn encode_with(codebooks: &[f32], targets: &[f32], scales: &[f32], component_bits: &[u8]) -> Vec<u16> {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has the instructions.
            return unsafe { viterbi_avx2(codebooks, targets, scales, component_bits) };
        }
    }
    viterbi(codebooks, targets, scales, component_bits)
}

/// [`viterbi`] compiled for wider registers. The results are the same to the bit.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn viterbi_avx2(codebooks: &[f32], targets: &[f32], scales: &[f32], component_bits: &[u8]) -> Vec<u16> {
    viterbi(codebooks, targets, scales, component_bits)
}

/// Finds the cheapest path of states with the Viterbi algorithm.
///
/// Two states may follow each other if the low `STATE_BITS - bits` bits of the first are the high ones of the
/// second, where `bits` is the number of new bits of the second value. These are the *shared* bits. The other
/// bits of the first state are the *dropped* ones. The cost of a path is the sum of the squared distances of
/// its values to their targets.
#[inline(always)]
fn viterbi(codebooks: &[f32], targets: &[f32], scales: &[f32], component_bits: &[u8]) -> Vec<u16> {
    let count = targets.len();
    if count == 0 {
        return Vec::new();
    }
    let mut search = Search::new(count);
    search.start(targets[0], scales[0], codebook(codebooks, component_bits[0]));
    for index in 1..count {
        let bits = component_bits[index];
        search.extend(index, bits, targets[index], scales[index], codebook(codebooks, bits));
    }
    search.cheapest_path(component_bits)
}

/// Returns the codebook for a number of bits.
#[inline(always)]
fn codebook(codebooks: &[f32], bits: u8) -> &[f32] {
    &codebooks[codebook_start(bits)..][..STATES]
}

/// Choices of shared bits at most: those of a value with one new bit.
const MAX_SHARED: usize = STATES / 2;

/// What the Viterbi algorithm knows after some of the values.
///
/// Invariant after `n` values: `costs[s]` is the cost of the cheapest path of `n` states that ends in `s`.
/// For each `0 < i < n` and each choice of shared bits, `dropped[i]` has the dropped bits of the state before
/// state `i` on the cheapest path to these shared bits.
struct Search {
    costs: Vec<f32>,
    /// Scratch: for each choice of shared bits the cost of the cheapest path to a state that ends in them.
    best: Vec<f32>,
    /// Scratch: the dropped bits of that state.
    best_dropped: Vec<u32>,
    /// [`MAX_SHARED`] numbers for each value, of which those of the first are not used.
    dropped: Vec<u8>,
}

impl Search {
    /// Returns a search for `count` values, which has seen none of them.
    #[inline(always)]
    fn new(count: usize) -> Search {
        Search {
            costs: vec![0.0; STATES],
            best: vec![0.0; MAX_SHARED],
            best_dropped: vec![0; MAX_SHARED],
            dropped: vec![0; count * MAX_SHARED],
        }
    }

    /// Takes the first value, whose state is free.
    #[inline(always)]
    fn start(&mut self, target: f32, scale: f32, codebook: &[f32]) {
        add_squares::<STATES>(target, scale, codebook, &[0.0], &mut self.costs);
    }

    /// Takes the value `index`, which has `bits` new bits.
    #[inline(always)]
    fn extend(&mut self, index: usize, bits: u8, target: f32, scale: f32, codebook: &[f32]) {
        let shared = STATES >> bits;
        let (best, best_dropped) = (&mut self.best[..shared], &mut self.best_dropped[..shared]);
        cheapest_predecessors(&self.costs, best, best_dropped);
        for (stored, dropped) in self.dropped[index * MAX_SHARED..].iter_mut().zip(best_dropped.iter()) {
            *stored = *dropped as u8;
        }
        let costs = &mut self.costs;
        match bits {
            1 => add_squares::<2>(target, scale, codebook, best, costs),
            2 => add_squares::<4>(target, scale, codebook, best, costs),
            3 => add_squares::<8>(target, scale, codebook, best, costs),
            4 => add_squares::<16>(target, scale, codebook, best, costs),
            5 => add_squares::<32>(target, scale, codebook, best, costs),
            _ => add_squares::<64>(target, scale, codebook, best, costs),
        }
    }

    /// Returns the states of the cheapest path, which it follows from the end to the start.
    #[inline(always)]
    fn cheapest_path(&self, component_bits: &[u8]) -> Vec<u16> {
        let cheaper = |a: &usize, b: &usize| self.costs[*a].total_cmp(&self.costs[*b]);
        let mut state = (0..STATES).min_by(cheaper).unwrap_or(0);
        let mut states = vec![0u16; component_bits.len()];
        for (index, bits) in component_bits.iter().enumerate().rev() {
            states[index] = state as u16;
            if index > 0 {
                let shared = state >> bits;
                let dropped = usize::from(self.dropped[index * MAX_SHARED + shared]);
                state = shared | dropped << (STATE_BITS - usize::from(*bits));
            }
        }
        states
    }
}

/// Writes the cost of ending in each state: that of the cheapest path to its shared bits, plus the squared
/// distance of `target` to the state's value. `NEW` is the number of states with the same shared bits, 2 to
/// the power of the new bits.
#[inline(always)]
fn add_squares<const NEW: usize>(target: f32, scale: f32, codebook: &[f32], best: &[f32], costs: &mut [f32]) {
    let blocks = costs.as_chunks_mut::<NEW>().0.iter_mut().zip(codebook.as_chunks::<NEW>().0);
    for ((costs, values), best) in blocks.zip(best) {
        for (cost, value) in costs.iter_mut().zip(values) {
            let difference = target - scale * value;
            *cost = best + difference * difference;
        }
    }
}

/// Writes for each choice of shared bits the cost of the cheapest state that ends in them, and the dropped
/// bits of this state. `best.len()` is the number of choices.
#[inline(always)]
fn cheapest_predecessors(costs: &[f32], best: &mut [f32], best_dropped: &mut [u32]) {
    best.copy_from_slice(&costs[..best.len()]);
    best_dropped.fill(0);
    for (dropped, rivals) in costs.chunks_exact(best.len()).enumerate().skip(1) {
        for ((best, best_dropped), rival) in best.iter_mut().zip(best_dropped.iter_mut()).zip(rivals) {
            // Written as two selections, so that the compiler generates vector code.
            let better = rival < best;
            *best = if better { *rival } else { *best };
            *best_dropped = if better { dropped as u32 } else { *best_dropped };
        }
    }
}

/// Returns the length in bits of the code of values with these numbers of bits.
pub(crate) fn code_bits(component_bits: &[u8]) -> usize {
    component_bits.iter().skip(1).map(|bits| usize::from(*bits)).sum::<usize>()
        + if component_bits.is_empty() { 0 } else { STATE_BITS }
}

/// Writes the string of bits that passes through `states`, most significant bit first, and fills the rest of
/// `out` with zeros.
pub(crate) fn write(states: &[u16], component_bits: &[u8], out: &mut [u8]) {
    out.fill(0);
    let mut at = 0;
    for (index, (state, bits)) in states.iter().zip(component_bits).enumerate() {
        let count = if index == 0 { STATE_BITS } else { usize::from(*bits) };
        for bit in (0..count).rev() {
            out[at / 8] |= ((state >> bit & 1) as u8) << (7 - at % 8);
            at += 1;
        }
    }
}

/// Where the state of a value lies in the string: in the low [`STATE_BITS`] bits of `word >> shift`, where
/// the word is the big-endian u32 at byte `offset`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BitWindow {
    /// First byte of the word.
    pub(crate) offset: u16,
    /// Bits of the word below the state.
    pub(crate) shift: u8,
}

/// Bytes that must follow a string, so that the word of every window and every load of a vector register
/// exist.
pub(crate) const PADDING: usize = 16;

/// The bits of a state.
pub(crate) const STATE_MASK: u32 = STATES as u32 - 1;

/// Returns the window of each value, given the numbers of bits.
pub(crate) fn bit_windows(component_bits: &[u8]) -> Vec<BitWindow> {
    let mut start = 0;
    let window = |(index, bits): (usize, &u8)| {
        start += if index == 0 { 0 } else { usize::from(*bits) };
        BitWindow { offset: (start / 8) as u16, shift: (32 - start % 8 - STATE_BITS) as u8 }
    };
    component_bits.iter().enumerate().map(window).collect()
}

impl BitWindow {
    /// Returns the position in the string of the first bit of the state.
    pub(crate) fn start(self) -> usize {
        8 * usize::from(self.offset) + 32 - STATE_BITS - usize::from(self.shift)
    }

    /// Returns the state in a padded string.
    pub(crate) fn state(self, padded: &[u8]) -> usize {
        let at = usize::from(self.offset);
        let word = u32::from_be_bytes([padded[at], padded[at + 1], padded[at + 2], padded[at + 3]]);
        (word >> self.shift & STATE_MASK) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use leann_vector::Rng;
    use proptest::prelude::*;

    /// Returns standard normal numbers (Box and Muller).
    fn gaussian(rng: &mut Rng, count: usize) -> Vec<f32> {
        let mut uniform = || ((rng.next() >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
        (0..count)
            .map(|_| ((-2.0 * uniform().ln()).sqrt() * (std::f64::consts::TAU * uniform()).cos()) as f32)
            .collect()
    }

    /// Returns the mean squared error of coding Gaussian strings of 250 values with a codebook.
    fn residual_variance(codebooks: &[f32], bits: u8, strings: usize) -> f64 {
        let mut rng = Rng::new(11);
        let (mut sum, mut count) = (0.0, 0);
        for _ in 0..strings {
            let targets = gaussian(&mut rng, 250);
            let states = encode_with(codebooks, &targets, &[1.0; 250], &[bits; 250]);
            for (target, state) in targets.iter().zip(states).skip(10) {
                sum += f64::from(target - codebooks[codebook_start(bits) + usize::from(state)]).powi(2);
                count += 1;
            }
        }
        sum / f64::from(count)
    }

    #[test]
    #[cfg_attr(miri, ignore = "hours, and nothing but arithmetic")]
    fn codebooks_are_good() {
        for bits in 1..=MAX_BITS {
            let got = residual_variance(codebooks(), bits, 60);
            let expected = RESIDUAL_VARIANCE[usize::from(bits)];
            assert!((got / expected - 1.0).abs() < 0.05, "bits {bits}: {got:.5} for {expected}");
        }
    }

    /// Trains the codebooks with the generalized Lloyd algorithm: encodes many Gaussian strings, moves the
    /// value of each state to the mean of the numbers that it stood for, and repeats. The first values are
    /// quantiles: the new bits choose a coarse cell, and a random function of the older bits the position
    /// within it.
    #[test]
    #[ignore = "writes src/codebooks.bin, which is part of the stored format"]
    fn regenerate() {
        let mut rng = Rng::new(1);
        let mut sorted = gaussian(&mut rng, 1 << 20);
        sorted.sort_by(f32::total_cmp);
        let mut codebooks = vec![0f32; usize::from(MAX_BITS) * STATES];
        for bits in 1..=MAX_BITS {
            let older = STATES >> bits;
            let positions = rng.permutation(older);
            for state in 0..STATES {
                let rank = (state & ((1 << bits) - 1)) * older + positions[state >> bits];
                codebooks[codebook_start(bits) + state] =
                    sorted[(rank * 2 + 1) * sorted.len() / (2 * STATES)];
            }
            for _ in 0..30 {
                let (mut sums, mut counts) = (vec![0f64; STATES], vec![0u32; STATES]);
                for _ in 0..500 {
                    let targets = gaussian(&mut rng, 260);
                    let states = encode_with(&codebooks, &targets, &[1.0; 260], &[bits; 260]);
                    for (target, state) in targets.iter().zip(states).skip(10) {
                        sums[usize::from(state)] += f64::from(*target);
                        counts[usize::from(state)] += 1;
                    }
                }
                for state in (0..STATES).filter(|state| counts[*state] > 4) {
                    codebooks[codebook_start(bits) + state] = (sums[state] / f64::from(counts[state])) as f32;
                }
            }
            println!("bits {bits}: {:.5} of the variance lost", residual_variance(&codebooks, bits, 200));
        }
        let stored: Vec<u8> =
            codebooks.iter().flat_map(|value| ((value * UNIT).round() as i16).to_le_bytes()).collect();
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/src/codebooks.bin"), stored).unwrap();
    }

    #[test]
    fn the_search_is_exhaustive() {
        // Two values of 2 bits: all strings of 12 bits can be tried.
        let (targets, scales, component_bits) = ([0.3f32, -1.1], [1.0f32, 0.7], [2u8, 2]);
        let cost = |first: usize, second: usize| {
            let table = &codebooks()[codebook_start(2)..];
            (targets[0] - table[first]).powi(2) + (targets[1] - scales[1] * table[second]).powi(2)
        };
        let states = encode(&targets, &scales, &component_bits);
        let found = cost(usize::from(states[0]), usize::from(states[1]));
        let least =
            (0..STATES << 2).map(|string| cost(string >> 2, string & (STATES - 1))).fold(f32::MAX, f32::min);
        assert!((found - least).abs() < 1e-6, "{found} for {least}");
    }

    proptest! {
        #[test]
        fn wider_registers_find_the_same_states(
            values in prop::collection::vec((-3f32..3.0, 0.1f32..2.0, 1u8..=MAX_BITS), 0..40)
        ) {
            let targets: Vec<f32> = values.iter().map(|v| v.0).collect();
            let scales: Vec<f32> = values.iter().map(|v| v.1).collect();
            let component_bits: Vec<u8> = values.iter().map(|v| v.2).collect();
            let expected = viterbi(codebooks(), &targets, &scales, &component_bits);
            #[cfg(target_arch = "x86_64")]
            {
                if is_x86_feature_detected!("avx2") {
                    // SAFETY: the processor has the instructions.
                    let found = unsafe { viterbi_avx2(codebooks(), &targets, &scales, &component_bits) };
                    prop_assert_eq!(&found, &expected);
                }
            }
            prop_assert_eq!(encode(&targets, &scales, &component_bits), expected);
        }

        #[test]
        fn what_is_written_is_read(
            values in prop::collection::vec((-3f32..3.0, 1u8..=MAX_BITS), 0..80), spare in 0usize..3
        ) {
            let (targets, component_bits): (Vec<f32>, Vec<u8>) = values.into_iter().unzip();
            let states = encode(&targets, &vec![1.0; targets.len()], &component_bits);
            let size = code_bits(&component_bits).div_ceil(8) + spare;
            let mut padded = vec![0; size + PADDING];
            write(&states, &component_bits, &mut padded[..size]);
            for (window, state) in bit_windows(&component_bits).into_iter().zip(states) {
                prop_assert_eq!(window.state(&padded), usize::from(state));
            }
        }
    }
}
