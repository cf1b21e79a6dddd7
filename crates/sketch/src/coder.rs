//! The coder that the trained and the untrained form share: coordinates to a string of bits, and bits to
//! coordinates, length and error.
//!
//! A sketch is the trellis code of the row's coordinates and nothing else. Rows have unit length, so a
//! decoded vector is scaled to unit length too. This replaces a stored gain: it ranks better than the exact
//! gain per row of RaBitQ, which costs a byte (measured). The squared length that was missing before scaling
//! tells how far the sketch is from its row, which replaces a stored error.

use crate::lut_scan::{ComponentTerm, LutScan};
use crate::trellis::{self, BitWindow, PADDING, codebooks};

/// The numbers from which a decoded vector's gain and an estimate's error follow.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Calibration {
    /// `1 - |mean|^2`: the mean squared distance of unit rows from their mean.
    pub(crate) total_variance: f32,
    /// Factor of every gain, which corrects a bias of estimates.
    pub(crate) gain_correction: f32,
    /// The mean squared error of an estimate for a unit query is `error_base + error_slope * residual`, at
    /// least `error_min`. See [`Calibration::residual`].
    pub(crate) error_base: f32,
    /// Increase of the mean squared error per unit of the residual.
    pub(crate) error_slope: f32,
    /// Lower bound of the mean squared error.
    pub(crate) error_min: f32,
    /// The mean residual of a row.
    pub(crate) residual_mean: f32,
    /// The mean squared length of what the components do not span of a row.
    pub(crate) outside_mean: f32,
    /// The mean of `cos^2` between what the components do not span of a row and of a query.
    pub(crate) outside_alignment: f32,
}

impl Calibration {
    /// Returns whether the numbers are usable: finite, of ordinary size, and with a positive error.
    pub(crate) fn is_sound(&self) -> bool {
        let ordinary = |value: f32| value.is_finite() && value.abs() < 1e6;
        let signed = [self.gain_correction, self.error_base, self.residual_mean];
        let others = [self.error_slope, self.outside_mean, self.outside_alignment];
        signed.into_iter().all(ordinary)
            && others.into_iter().all(|value| ordinary(value) && value >= 0.0)
            && [self.total_variance, self.error_min].into_iter().all(|value| ordinary(value) && value > 0.0)
    }

    /// Returns `gain_correction` times the `g` for which `mean + g h` has unit length. `norm_squared` is
    /// `|h|^2`, `mean_product` is `<mean, h>`, and `h` is a decoded vector before it is scaled.
    pub(crate) fn gain(&self, norm_squared: f32, mean_product: f32) -> f32 {
        let norm_squared = norm_squared.max(1e-9);
        // This form of the root loses digits only where `norm_squared` is near zero, and `h` is never that
        // short.
        self.gain_correction
            * ((mean_product * mean_product + norm_squared * self.total_variance).sqrt() - mean_product)
            / norm_squared
    }

    /// Returns the mean squared error of an estimate for a query of unit length that the components span.
    pub(crate) fn squared_error(&self, residual: f32) -> f32 {
        // `max`, unlike a comparison, also takes a NaN to the bound.
        (self.error_base + self.error_slope * residual).max(self.error_min)
    }

    /// Returns the squared length of what the components do not span of a row, as its residual suggests.
    pub(crate) fn outside(&self, residual: f32) -> f32 {
        (self.outside_mean + residual - self.residual_mean).max(0.25 * self.outside_mean)
    }

    /// Returns the ratio of the length that a row has outside of the components to that which it has within.
    pub(crate) fn outside_ratio(&self, outside: f32) -> f32 {
        let within = (self.total_variance - outside).max(0.05 * self.total_variance);
        (outside / within).sqrt()
    }

    /// Returns `1 - |mean + h|^2`: about the squared length of what the code misses of its row.
    pub(crate) fn residual(&self, norm_squared: f32, mean_product: f32) -> f32 {
        self.total_variance - 2.0 * mean_product - norm_squared
    }
}

/// Returns how many bits of a sketch are for its code. The last one is not: it tells the form.
pub(crate) fn code_budget(sketch_bytes: usize) -> usize {
    (8 * sketch_bytes).saturating_sub(1)
}

/// A trellis code for coordinates of known spread.
#[derive(Clone, Debug)]
pub(crate) struct Coder {
    /// Bits of each component.
    component_bits: Vec<u8>,
    /// Where in a sketch the state of each component is.
    windows: Vec<BitWindow>,
    /// Index at which the codebook of each component starts.
    codebook_starts: Vec<usize>,
    /// Standard deviation of each component: what a codeword is multiplied by.
    deviations: Vec<f32>,
    /// Factor of an error along each component while codes are chosen.
    error_weights: Vec<f32>,
    /// The inner product of each component with the mean of the rows.
    mean: Vec<f32>,
    sketch_bytes: usize,
    calibration: Calibration,
}

/// Two properties of a decoded vector before it is scaled.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DecodedNorm {
    /// Squared length.
    pub(crate) squared: f32,
    /// Inner product with the mean of the rows.
    pub(crate) mean_product: f32,
}

impl Coder {
    /// Makes a coder from one value of each list per component. The code must fit into `sketch_bytes`.
    pub(crate) fn new(
        component_bits: Vec<u8>,
        deviations: Vec<f32>,
        error_weights: Vec<f32>,
        mean: Vec<f32>,
        sketch_bytes: usize,
        calibration: Calibration,
    ) -> Coder {
        debug_assert!(trellis::code_bits(&component_bits) <= code_budget(sketch_bytes));
        let windows = trellis::bit_windows(&component_bits);
        let codebook_starts = component_bits.iter().map(|bits| trellis::codebook_start(*bits)).collect();
        Coder {
            component_bits,
            windows,
            codebook_starts,
            deviations,
            error_weights,
            mean,
            sketch_bytes,
            calibration,
        }
    }

    /// Returns the number of components.
    pub(crate) fn components(&self) -> usize {
        self.component_bits.len()
    }

    /// Returns the length in bytes of a sketch.
    pub(crate) fn sketch_bytes(&self) -> usize {
        self.sketch_bytes
    }

    /// Returns the numbers that gains and errors follow from.
    pub(crate) fn calibration(&self) -> &Calibration {
        &self.calibration
    }

    /// Returns the variance of each decoded coordinate before it is scaled: that of the component less what
    /// coding loses of it.
    pub(crate) fn variances(&self) -> impl Iterator<Item = f32> + '_ {
        let kept = |bits: &u8| 1.0 - trellis::RESIDUAL_VARIANCE[usize::from(*bits)] as f32;
        self.deviations
            .iter()
            .zip(&self.component_bits)
            .map(move |(deviation, bits)| deviation * deviation * kept(bits))
    }

    /// Returns the variance that the components have together, and what coding loses of it.
    pub(crate) fn spanned_and_lost(&self) -> (f32, f32) {
        let spanned: f32 = self.deviations.iter().map(|deviation| deviation * deviation).sum();
        (spanned, spanned - self.variances().sum::<f32>())
    }

    /// Writes the sketch of a row's coordinates, one per component.
    pub(crate) fn encode(&self, coordinates: &[f32], out: &mut [u8]) {
        assert_eq!(out.len(), self.sketch_bytes, "a sketch has a fixed length");
        let targets: Vec<f32> = coordinates.iter().zip(&self.error_weights).map(|(c, w)| c * w).collect();
        let scales: Vec<f32> = self.deviations.iter().zip(&self.error_weights).map(|(s, w)| s * w).collect();
        let states = trellis::encode(&targets, &scales, &self.component_bits);
        trellis::write(&states, &self.component_bits, out);
    }

    /// Writes the coordinates that a sketch stands for.
    pub(crate) fn decode(&self, sketch: &[u8], out: &mut [f32]) {
        assert_eq!(sketch.len(), self.sketch_bytes, "a sketch has a fixed length");
        assert_eq!(out.len(), self.components(), "one value per component");
        let norm = self.decode_unscaled(sketch, out);
        let gain = self.calibration.gain(norm.squared, norm.mean_product);
        out.iter_mut().for_each(|value| *value *= gain);
    }

    /// Writes the coordinates before they are scaled to unit length.
    pub(crate) fn decode_unscaled(&self, sketch: &[u8], out: &mut [f32]) -> DecodedNorm {
        let padded = [sketch, &[0; PADDING]].concat();
        let codebooks = codebooks();
        let mut norm = DecodedNorm { squared: 0.0, mean_product: 0.0 };
        for (component, value) in out.iter_mut().enumerate() {
            let state = self.windows[component].state(&padded);
            *value = self.deviations[component] * codebooks[self.codebook_starts[component] + state];
            norm.squared += *value * *value;
            norm.mean_product += *value * self.mean[component];
        }
        norm
    }

    /// Returns the scan that scores sketches for a query, given the query's inner products with the
    /// components.
    pub(crate) fn scan(&self, projected: &[f32]) -> LutScan {
        let term = |component: usize| {
            let deviation = self.deviations[component];
            ComponentTerm {
                window: self.windows[component],
                bits: self.component_bits[component],
                query: projected[component] * deviation,
                squared: deviation * deviation,
                mean: self.mean[component] * deviation,
            }
        };
        let terms: Vec<ComponentTerm> = (0..self.components()).map(term).collect();
        LutScan::new(&terms, self.sketch_bytes)
    }
}
