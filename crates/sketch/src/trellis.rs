//! Trellis-coded quantisation: a little more than one bit per value buys what two bits buy a scalar quantiser.
//!
//! All values of a vector are coded together as one string of bits. Each value takes `width` new bits, but is looked up by the last
//! [`STATE_BITS`] bits, most of which its predecessors chose; the Viterbi algorithm finds the string whose values are nearest to the vector.
//! Decoding is one look-up per value, at any place of the string, with no state to carry.
//!
//! Marcellin and Fischer, "Trellis coded quantization of memoryless and Gauss-Markov sources", IEEE Trans. Communications 1990; the form whose
//! states are windows of the bit string ("bitshift trellis"), with trained tables, is that of Tseng et al., "QTIP: quantization with
//! trellises and incoherence processing", NeurIPS 2024.

use std::sync::OnceLock;

/// Bits that a value is looked up by.
pub(crate) const STATE_BITS: usize = 10;
/// Most new bits per value.
pub(crate) const MAX_WIDTH: u8 = 6;
pub(crate) const STATES: usize = 1 << STATE_BITS;
/// One in the tables' fixed-point form.
pub(crate) const UNIT: f32 = 4096.0;

/// Share of a Gaussian's variance that is left when every value takes that many bits; `tables_are_good` measures it.
pub(crate) const LEFT: [f64; MAX_WIDTH as usize + 1] =
    [1.0, 0.2767, 0.0783, 0.0211, 0.00565, 0.00192, 0.00058];

/// Trained on Gaussian values by `regenerate`, for each width 1024 values as little-endian 16-bit integers. Part of the stored format: sketches
/// made with other tables would be unreadable.
static STORED: &[u8; 2 * MAX_WIDTH as usize * STATES] = include_bytes!("trellis.bin");

/// The values of all widths, one table after the other: that of width `w` starts at `(w - 1) * 1024`.
pub(crate) fn tables() -> &'static [f32] {
    static TABLES: OnceLock<Vec<f32>> = OnceLock::new();
    TABLES.get_or_init(|| {
        STORED.chunks_exact(2).map(|pair| f32::from(i16::from_le_bytes([pair[0], pair[1]])) / UNIT).collect()
    })
}

/// The value of a width's state in units of `1 / UNIT`.
pub(crate) const fn stored(width: u8, state: usize) -> i16 {
    let at = 2 * (table_start(width) + state);
    i16::from_le_bytes([STORED[at], STORED[at + 1]])
}

/// Where the table of a width starts.
pub(crate) const fn table_start(width: u8) -> usize {
    (width as usize - 1) * STATES
}

/// Finds the states whose values, each times its scale, are nearest to `targets` in the sum of squares. One scale and one width per target.
///
/// The first value is looked up by bits of its own, [`STATE_BITS`] of them, whatever its width.
pub(crate) fn encode(targets: &[f32], scales: &[f32], widths: &[u8]) -> Vec<u16> {
    encode_with(tables(), targets, scales, widths)
}

fn encode_with(tables: &[f32], targets: &[f32], scales: &[f32], widths: &[u8]) -> Vec<u16> {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has the instructions; the code is the portable one.
            return unsafe { viterbi_avx2(tables, targets, scales, widths) };
        }
    }
    viterbi(tables, targets, scales, widths)
}

/// [`viterbi`], compiled for wider registers; the results are the same to the bit.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn viterbi_avx2(tables: &[f32], targets: &[f32], scales: &[f32], widths: &[u8]) -> Vec<u16> {
    viterbi(tables, targets, scales, widths)
}

#[inline(always)]
fn viterbi(tables: &[f32], targets: &[f32], scales: &[f32], widths: &[u8]) -> Vec<u16> {
    let count = targets.len();
    if count == 0 {
        return Vec::new();
    }
    let table = |index: usize| &tables[table_start(widths[index])..][..STATES];
    let mut costs = vec![0f32; STATES];
    let mut best = vec![0f32; STATES / 2];
    let mut choice = vec![0u32; STATES / 2];
    // For each value and each choice of the bits it shares with its predecessor, the best of the bits that fall out of the window.
    let mut dropped = vec![0u8; count * STATES / 2];
    add_squares::<STATES>(targets[0], scales[0], table(0), &[0.0], &mut costs);
    for index in 1..count {
        let shared = STATES >> widths[index];
        let (best, choice) = (&mut best[..shared], &mut choice[..shared]);
        cheapest(&costs, best, choice);
        for (stored, choice) in dropped[index * STATES / 2..].iter_mut().zip(choice.iter()) {
            *stored = *choice as u8;
        }
        let (target, scale, table) = (targets[index], scales[index], table(index));
        match widths[index] {
            1 => add_squares::<2>(target, scale, table, best, &mut costs),
            2 => add_squares::<4>(target, scale, table, best, &mut costs),
            3 => add_squares::<8>(target, scale, table, best, &mut costs),
            4 => add_squares::<16>(target, scale, table, best, &mut costs),
            5 => add_squares::<32>(target, scale, table, best, &mut costs),
            _ => add_squares::<64>(target, scale, table, best, &mut costs),
        }
    }
    let mut state = (0..STATES).min_by(|a, b| costs[*a].total_cmp(&costs[*b])).unwrap_or(0);
    let mut states = vec![0u16; count];
    for index in (0..count).rev() {
        states[index] = state as u16;
        if index > 0 {
            let width = usize::from(widths[index]);
            let kept = state >> width;
            state = kept | usize::from(dropped[index * STATES / 2 + kept]) << (STATE_BITS - width);
        }
    }
    states
}

/// The cost of ending in each state: that of the best way to its shared bits, and the squared distance of `target` to the state's value.
#[inline(always)]
fn add_squares<const NEW: usize>(target: f32, scale: f32, table: &[f32], best: &[f32], costs: &mut [f32]) {
    let groups = costs.as_chunks_mut::<NEW>().0.iter_mut().zip(table.as_chunks::<NEW>().0);
    for ((costs, values), best) in groups.zip(best) {
        for (cost, value) in costs.iter_mut().zip(values) {
            let off = target - scale * value;
            *cost = best + off * off;
        }
    }
}

/// The cheapest predecessor for each choice of shared bits: predecessors differ in the bits above the shared ones.
#[inline(always)]
fn cheapest(costs: &[f32], best: &mut [f32], choice: &mut [u32]) {
    best.copy_from_slice(&costs[..best.len()]);
    choice.fill(0);
    for (bits, rivals) in costs.chunks_exact(best.len()).enumerate().skip(1) {
        for ((best, choice), rival) in best.iter_mut().zip(choice.iter_mut()).zip(rivals) {
            // Written as two selections, so that the compiler makes vector code of it.
            let better = rival < best;
            *best = if better { *rival } else { *best };
            *choice = if better { bits as u32 } else { *choice };
        }
    }
}

/// The number of bits that values of these widths take.
pub(crate) fn bits(widths: &[u8]) -> usize {
    widths.iter().skip(1).map(|width| usize::from(*width)).sum::<usize>()
        + if widths.is_empty() { 0 } else { STATE_BITS }
}

/// Writes the string of bits that passes through `states`, most significant bit first; what is left of `out` becomes zero.
pub(crate) fn write(states: &[u16], widths: &[u8], out: &mut [u8]) {
    out.fill(0);
    let mut at = 0;
    for (index, (state, width)) in states.iter().zip(widths).enumerate() {
        let count = if index == 0 { STATE_BITS } else { usize::from(*width) };
        for bit in (0..count).rev() {
            out[at / 8] |= ((state >> bit & 1) as u8) << (7 - at % 8);
            at += 1;
        }
    }
}

/// Where in the string a value's state lies: `(big-endian u32 at byte offset) >> shift`, of which the low [`STATE_BITS`] bits count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) offset: u16,
    pub(crate) shift: u8,
}

/// Bytes that must follow a string so that every window's four bytes exist.
pub(crate) const PADDING: usize = 16;
pub(crate) const STATE_MASK: u32 = STATES as u32 - 1;

pub(crate) fn windows(widths: &[u8]) -> Vec<Window> {
    let mut start = 0;
    let place = |(index, width): (usize, &u8)| {
        start += if index == 0 { 0 } else { usize::from(*width) };
        Window { offset: (start / 8) as u16, shift: (32 - start % 8 - STATE_BITS) as u8 }
    };
    widths.iter().enumerate().map(place).collect()
}

impl Window {
    /// The first bit of the state in the string.
    pub(crate) fn start(self) -> usize {
        8 * usize::from(self.offset) + 32 - STATE_BITS - usize::from(self.shift)
    }

    /// The state in a padded string.
    pub(crate) fn state(self, padded: &[u8]) -> usize {
        let at = usize::from(self.offset);
        let word = u32::from_be_bytes([padded[at], padded[at + 1], padded[at + 2], padded[at + 3]]);
        (word >> self.shift & STATE_MASK) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;
    use proptest::prelude::*;

    fn gaussian(random: &mut Random, count: usize) -> Vec<f32> {
        let mut uniform = || ((random.next() >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
        (0..count)
            .map(|_| ((-2.0 * uniform().ln()).sqrt() * (std::f64::consts::TAU * uniform()).cos()) as f32)
            .collect()
    }

    /// The mean squared error of coding Gaussian strings of 250 values with a table.
    fn left(tables: &[f32], width: u8, strings: usize) -> f64 {
        let mut random = Random::new(11);
        let (mut sum, mut count) = (0.0, 0);
        for _ in 0..strings {
            let targets = gaussian(&mut random, 250);
            let states = encode_with(tables, &targets, &[1.0; 250], &[width; 250]);
            for (target, state) in targets.iter().zip(states).skip(10) {
                sum += f64::from(target - tables[table_start(width) + usize::from(state)]).powi(2);
                count += 1;
            }
        }
        sum / f64::from(count)
    }

    #[test]
    #[cfg_attr(miri, ignore = "hours, and nothing but arithmetic")]
    fn tables_are_good() {
        for width in 1..=MAX_WIDTH {
            let got = left(tables(), width, 60);
            let expected = LEFT[usize::from(width)];
            assert!((got / expected - 1.0).abs() < 0.05, "width {width}: {got:.5} for {expected}");
        }
    }

    /// Generalised Lloyd: code many Gaussian strings, move each state's value to the mean of what it stood for, repeat. It starts from
    /// quantiles: the new bits choose the coarse cell, a random function of the older bits the place within it.
    #[test]
    #[ignore = "writes src/trellis.bin, which is part of the stored format"]
    fn regenerate() {
        let mut random = Random::new(1);
        let mut sorted = gaussian(&mut random, 1 << 20);
        sorted.sort_by(f32::total_cmp);
        let mut tables = vec![0f32; usize::from(MAX_WIDTH) * STATES];
        for width in 1..=MAX_WIDTH {
            let older = STATES >> width;
            let places = random.permutation(older);
            for state in 0..STATES {
                let rank = (state & ((1 << width) - 1)) * older + places[state >> width];
                tables[table_start(width) + state] = sorted[(rank * 2 + 1) * sorted.len() / (2 * STATES)];
            }
            for _ in 0..30 {
                let (mut sums, mut counts) = (vec![0f64; STATES], vec![0u32; STATES]);
                for _ in 0..500 {
                    let targets = gaussian(&mut random, 260);
                    let states = encode_with(&tables, &targets, &[1.0; 260], &[width; 260]);
                    for (target, state) in targets.iter().zip(states).skip(10) {
                        sums[usize::from(state)] += f64::from(*target);
                        counts[usize::from(state)] += 1;
                    }
                }
                for state in (0..STATES).filter(|state| counts[*state] > 4) {
                    tables[table_start(width) + state] = (sums[state] / f64::from(counts[state])) as f32;
                }
            }
            println!("width {width}: {:.5} of the variance left", left(&tables, width, 200));
        }
        let stored: Vec<u8> =
            tables.iter().flat_map(|value| ((value * UNIT).round() as i16).to_le_bytes()).collect();
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/src/trellis.bin"), stored).unwrap();
    }

    #[test]
    fn the_search_is_exhaustive() {
        // Two values of width 2: all strings of 12 bits can be tried.
        let (targets, scales, widths) = ([0.3f32, -1.1], [1.0f32, 0.7], [2u8, 2]);
        let cost = |first: usize, second: usize| {
            let table = &tables()[table_start(2)..];
            (targets[0] - table[first]).powi(2) + (targets[1] - scales[1] * table[second]).powi(2)
        };
        let states = encode(&targets, &scales, &widths);
        let found = cost(usize::from(states[0]), usize::from(states[1]));
        let least =
            (0..STATES << 2).map(|string| cost(string >> 2, string & (STATES - 1))).fold(f32::MAX, f32::min);
        assert!((found - least).abs() < 1e-6, "{found} for {least}");
    }

    proptest! {
        #[test]
        fn wider_registers_find_the_same_states(values in prop::collection::vec((-3f32..3.0, 0.1f32..2.0, 1u8..=MAX_WIDTH), 0..40)) {
            let targets: Vec<f32> = values.iter().map(|v| v.0).collect();
            let scales: Vec<f32> = values.iter().map(|v| v.1).collect();
            let widths: Vec<u8> = values.iter().map(|v| v.2).collect();
            let expected = viterbi(tables(), &targets, &scales, &widths);
            #[cfg(target_arch = "x86_64")]
            {
                if is_x86_feature_detected!("avx2") {
                    // SAFETY: the processor has the instructions.
                    prop_assert_eq!(&unsafe { viterbi_avx2(tables(), &targets, &scales, &widths) }, &expected);
                }
            }
            prop_assert_eq!(encode(&targets, &scales, &widths), expected);
        }

        #[test]
        fn what_is_written_is_read(
            values in prop::collection::vec((-3f32..3.0, 1u8..=MAX_WIDTH), 0..80), spare in 0usize..3
        ) {
            let (targets, widths): (Vec<f32>, Vec<u8>) = values.into_iter().unzip();
            let states = encode(&targets, &vec![1.0; targets.len()], &widths);
            let size = bits(&widths).div_ceil(8) + spare;
            let mut padded = vec![0; size + PADDING];
            write(&states, &widths, &mut padded[..size]);
            for (window, state) in windows(&widths).into_iter().zip(states) {
                prop_assert_eq!(window.state(&padded), usize::from(state));
            }
        }
    }
}
