//! What the trained and the untrained form share: a few bits per direction packed into bytes, then gain and error.
//!
//! A sketch is `code bytes, gain byte, error byte`. No direction straddles a byte, so that the similarity of a node is a sum
//! over bytes of one look-up each, in tables made once per query (`score.rs`).

use crate::linear::dot;
use crate::log_byte::LogByte;

/// Bytes of a sketch that are not code: gain and error.
pub(crate) const TRAILER: usize = 2;
/// Most bits that one direction may take.
pub(crate) const MAX_WIDTH: u8 = 6;

/// Where a direction's bits lie: `width` bits of byte `byte`, from bit `shift` up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) byte: u16,
    pub(crate) shift: u8,
    pub(crate) width: u8,
}

impl Slot {
    fn index(self, byte: u8) -> usize {
        usize::from((byte >> self.shift) & self.mask())
    }

    fn mask(self) -> u8 {
        ((1u16 << self.width) - 1) as u8
    }
}

/// A scalar quantiser per direction, and the scales of the two numbers that each node keeps beside its code.
#[derive(Clone, Debug)]
pub(crate) struct Code {
    /// One per direction.
    slots: Vec<Slot>,
    /// Where each direction's levels start in `levels`, and one end more.
    starts: Vec<usize>,
    /// The values that the codes of a direction stand for, ascending; `1 << width` for each direction.
    levels: Vec<f32>,
    code_bytes: usize,
    gain: LogByte,
    error: LogByte,
    gains: [f32; 256],
}

impl Code {
    /// `levels` holds `1 << width` ascending values for each slot in turn. Slots must not overlap and must lie within `code_bytes`.
    pub(crate) fn new(
        slots: Vec<Slot>,
        levels: Vec<f32>,
        code_bytes: usize,
        gain: LogByte,
        error: LogByte,
    ) -> Code {
        let mut starts = vec![0];
        for slot in &slots {
            debug_assert!(usize::from(slot.byte) < code_bytes && slot.shift + slot.width <= 8);
            starts.push(starts[starts.len() - 1] + (1 << slot.width));
        }
        debug_assert_eq!(starts.last(), Some(&levels.len()));
        Code { slots, starts, levels, code_bytes, gain, error, gains: gain.table(1.0) }
    }

    pub(crate) fn directions(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn sketch_bytes(&self) -> usize {
        self.code_bytes + TRAILER
    }

    fn levels_of(&self, direction: usize) -> &[f32] {
        &self.levels[self.starts[direction]..self.starts[direction + 1]]
    }

    /// Writes the sketch of a projected embedding. `norm_squared` is the squared length of the *whole* centred embedding,
    /// of which `projected` may be only a part.
    pub(crate) fn encode(&self, projected: &[f32], norm_squared: f32, out: &mut [u8]) {
        assert_eq!(out.len(), self.sketch_bytes(), "a sketch has a fixed length");
        let (code, trailer) = out.split_at_mut(self.code_bytes);
        let mut levels = vec![0.0; self.slots.len()];
        self.choose(projected, code, &mut levels);
        let (gain, error) = self.gain_and_error(projected, norm_squared, &levels);
        trailer[0] = self.gain.encode(gain);
        trailer[1] = self.error.encode(error);
    }

    /// Chooses the code of a projected embedding, and the levels that it stands for before the gain.
    pub(crate) fn choose(&self, projected: &[f32], code: &mut [u8], levels: &mut [f32]) {
        code.fill(0);
        for (direction, slot) in self.slots.iter().enumerate() {
            let choices = self.levels_of(direction);
            let index = nearest(choices, projected[direction]);
            levels[direction] = choices[index];
            code[usize::from(slot.byte)] |= (index as u8) << slot.shift;
        }
    }

    /// The gain that makes the estimate unbiased (Gao and Long, "RaBitQ", SIGMOD 2024, section 3.2: divide by the inner product of
    /// the vector with its code, so that the remainder is orthogonal to the vector), and the length of that remainder.
    pub(crate) fn gain_and_error(&self, projected: &[f32], norm_squared: f32, levels: &[f32]) -> (f32, f32) {
        let gain = norm_squared / dot(projected, levels);
        // |y - g h|^2 = |y|^2 - 2 g <y, h> + g^2 |h|^2, and g <y, h> = |y|^2. With the gain as it will be read back, which also
        // covers vectors for which there is no such gain (a code of zero, or one that points away from the vector).
        let stored = self.gain.decode(self.gain.encode(gain));
        let error =
            norm_squared - 2.0 * stored * dot(projected, levels) + stored * stored * dot(levels, levels);
        (gain, error.max(0.0).sqrt())
    }

    /// The projected vector that a sketch stands for, gain applied.
    pub(crate) fn decode(&self, sketch: &[u8], out: &mut [f32]) {
        assert_eq!(sketch.len(), self.sketch_bytes(), "a sketch has a fixed length");
        assert_eq!(out.len(), self.slots.len(), "one value per direction");
        let gain = self.gains[usize::from(sketch[self.code_bytes])];
        for (direction, (slot, value)) in self.slots.iter().zip(out).enumerate() {
            *value = gain * self.levels_of(direction)[slot.index(sketch[usize::from(slot.byte)])];
        }
    }

    /// For each code byte a table of what each of its 256 values adds to the inner product with `projected`.
    pub(crate) fn tables(&self, projected: &[f32]) -> Vec<[f32; 256]> {
        let mut tables = vec![[0f32; 256]; self.code_bytes];
        let mut used = vec![0u8; self.code_bytes];
        for (direction, slot) in self.slots.iter().enumerate() {
            let (table, used) = (&mut tables[usize::from(slot.byte)], &mut used[usize::from(slot.byte)]);
            let levels = self.levels_of(direction).iter().map(|level| level * projected[direction]);
            add_direction(table, *used, slot.shift, &levels.collect::<Vec<_>>());
            *used |= slot.mask() << slot.shift;
        }
        for (table, used) in tables.iter_mut().zip(used) {
            // A bit that no direction uses changes nothing, whatever it is.
            for value in 0..256usize {
                table[value] = table[value & usize::from(used)];
            }
        }
        tables
    }

    pub(crate) fn gains(&self) -> [f32; 256] {
        self.gains
    }

    /// The standard errors that the error bytes stand for, for a query of the given sensitivity.
    pub(crate) fn errors(&self, sensitivity: f32) -> [f32; 256] {
        self.error.table(sensitivity)
    }
}

/// Adds one direction's values to a table that is filled only at the values of the bits in `used`.
fn add_direction(table: &mut [f32; 256], used: u8, shift: u8, values: &[f32]) {
    // Downwards, because index 0 of the new direction overwrites the sums that the others start from.
    for (index, value) in values.iter().enumerate().rev() {
        let mut bits = used;
        loop {
            table[usize::from(bits) | (index << shift)] = table[usize::from(bits)] + value;
            if bits == 0 {
                break;
            }
            bits = (bits - 1) & used;
        }
    }
}

/// The index of the value nearest to `target` among ascending `levels`.
pub(crate) fn nearest(levels: &[f32], target: f32) -> usize {
    let above = levels.partition_point(|level| *level < target);
    if above == 0 {
        0
    } else if above == levels.len() || target - levels[above - 1] <= levels[above] - target {
        above - 1
    } else {
        above
    }
}
