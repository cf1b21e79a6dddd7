//! What the trained and the untrained form share: from coordinates to a string of bits, and from bits to coordinates, length and error.
//!
//! A sketch is nothing but the trellis code of the row's coordinates. Rows have unit length, so a decoded vector is scaled to unit length
//! too: that takes the place of a stored gain (measured: it ranks better than RaBitQ's exact per-row gain, which costs a byte), and how much
//! had to be scaled tells how far off the sketch is, which takes the place of a stored error.

use crate::sums::{Term, Terms};
use crate::trellis::{self, PADDING, Window, tables};

/// The length that a decoded vector must have had, and the error that goes with it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Norm {
    /// `1 - |mean|^2`: with the mean, the decoded vector has length 1.
    pub(crate) room: f32,
    /// What estimates are multiplied with beyond unit length.
    pub(crate) factor: f32,
    /// The mean squared error of an estimate for a unit query is `error_base + error_slope * missing`, between bounds, where `missing` is
    /// what the decoded vector lacked in squared length.
    pub(crate) error_base: f32,
    pub(crate) error_slope: f32,
    pub(crate) error_min: f32,
    pub(crate) error_max: f32,
}

impl Norm {
    pub(crate) fn is_sound(&self) -> bool {
        let ordinary = |value: f32| value.is_finite() && value.abs() < 1e6;
        let all = [self.room, self.factor, self.error_base, self.error_slope, self.error_min, self.error_max];
        all.into_iter().all(ordinary)
            && self.room > 0.0
            && self.error_min > 0.0
            && self.error_min <= self.error_max
    }

    /// The g for which `mean + g h` has unit length (times `factor`), from `|h|^2` and `<mean, h>`.
    pub(crate) fn gain(&self, norm_squared: f32, with_mean: f32) -> f32 {
        let norm_squared = norm_squared.max(1e-9);
        // Near zero either way of writing the root loses digits; h is never that short.
        self.factor * ((with_mean * with_mean + norm_squared * self.room).sqrt() - with_mean) / norm_squared
    }

    /// The standard error for a query of unit length.
    pub(crate) fn error(&self, norm_squared: f32, with_mean: f32) -> f32 {
        let expected = self.error_base + self.error_slope * self.missing(norm_squared, with_mean);
        // `max` and `min`, unlike `clamp`, also take a NaN to a bound.
        expected.max(self.error_min).min(self.error_max).sqrt()
    }

    /// What `mean + h` lacks in squared length: about the squared length of what the code misses of its row.
    pub(crate) fn missing(&self, norm_squared: f32, with_mean: f32) -> f32 {
        self.room - 2.0 * with_mean - norm_squared
    }
}

/// A trellis code for coordinates of known spread.
#[derive(Clone, Debug)]
pub(crate) struct Code {
    widths: Vec<u8>,
    windows: Vec<Window>,
    /// Where the table of each direction starts.
    starts: Vec<usize>,
    /// The unit of each direction's values.
    spreads: Vec<f32>,
    /// By how much an error along each direction is magnified while choosing codes.
    importance: Vec<f32>,
    /// The mean of the rows, as coordinates of the decoded space: <mean, direction>.
    mean: Vec<f32>,
    sketch_bytes: usize,
    norm: Norm,
}

/// What a code says of its row before it is scaled: squared length, and inner product with the mean.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Length {
    pub(crate) squared: f32,
    pub(crate) with_mean: f32,
}

impl Code {
    /// One width, spread, importance and mean per direction; the widths must fit into `sketch_bytes`.
    pub(crate) fn new(
        widths: Vec<u8>,
        spreads: Vec<f32>,
        importance: Vec<f32>,
        mean: Vec<f32>,
        sketch_bytes: usize,
        norm: Norm,
    ) -> Code {
        debug_assert!(trellis::bits(&widths) <= sketch_bytes * 8);
        let windows = trellis::windows(&widths);
        let starts = widths.iter().map(|width| trellis::table_start(*width)).collect();
        Code { widths, windows, starts, spreads, importance, mean, sketch_bytes, norm }
    }

    pub(crate) fn directions(&self) -> usize {
        self.widths.len()
    }

    pub(crate) fn sketch_bytes(&self) -> usize {
        self.sketch_bytes
    }

    pub(crate) fn norm(&self) -> &Norm {
        &self.norm
    }

    /// The variance of each decoded coordinate, before it is scaled: what is not lost in coding.
    pub(crate) fn variances(&self) -> impl Iterator<Item = f32> + '_ {
        let kept = |width: &u8| 1.0 - trellis::LEFT[usize::from(*width)] as f32;
        self.spreads.iter().zip(&self.widths).map(move |(spread, width)| spread * spread * kept(width))
    }

    /// Writes the sketch of a row's coordinates.
    pub(crate) fn encode(&self, coordinates: &[f32], out: &mut [u8]) {
        assert_eq!(out.len(), self.sketch_bytes, "a sketch has a fixed length");
        let targets: Vec<f32> = coordinates.iter().zip(&self.importance).map(|(c, w)| c * w).collect();
        let scales: Vec<f32> = self.spreads.iter().zip(&self.importance).map(|(s, w)| s * w).collect();
        let states = trellis::encode(&targets, &scales, &self.widths);
        trellis::write(&states, &self.widths, out);
    }

    /// The coordinates that a sketch stands for.
    pub(crate) fn decode(&self, sketch: &[u8], out: &mut [f32]) {
        assert_eq!(sketch.len(), self.sketch_bytes, "a sketch has a fixed length");
        assert_eq!(out.len(), self.directions(), "one value per direction");
        let length = self.decode_unscaled(sketch, out);
        let gain = self.norm.gain(length.squared, length.with_mean);
        out.iter_mut().for_each(|value| *value *= gain);
    }

    /// The coordinates before they are scaled to unit length.
    pub(crate) fn decode_unscaled(&self, sketch: &[u8], out: &mut [f32]) -> Length {
        let padded = [sketch, &[0; PADDING]].concat();
        let tables = tables();
        let mut length = Length { squared: 0.0, with_mean: 0.0 };
        for (direction, value) in out.iter_mut().enumerate() {
            let state = self.windows[direction].state(&padded);
            *value = self.spreads[direction] * tables[self.starts[direction] + state];
            length.squared += *value * *value;
            length.with_mean += *value * self.mean[direction];
        }
        length
    }

    /// What scoring for a query with these inner products with the directions needs.
    pub(crate) fn terms(&self, projected: &[f32]) -> Terms {
        let term = |direction: usize| {
            let spread = self.spreads[direction];
            Term {
                window: self.windows[direction],
                width: self.widths[direction],
                query: projected[direction] * spread,
                squared: spread * spread,
                mean: self.mean[direction] * spread,
            }
        };
        let terms: Vec<Term> = (0..self.directions()).map(term).collect();
        Terms::new(&terms, self.sketch_bytes)
    }
}
