//! A positive number in one byte on a logarithmic scale, which has the same *relative* precision everywhere.

/// The largest magnitude of a logarithm on a scale. It keeps every decoded value within the range of `f32`.
const MAX_LOG: f32 = 40.0;

/// A logarithmic scale of 256 steps: byte `b` stands for `exp(low + b * step)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct LogScale {
    /// Logarithm of the value of byte 0.
    low: f32,
    /// Difference between the logarithms of adjacent bytes.
    step: f32,
}

impl LogScale {
    /// Returns the scale whose first and last byte stand for `min` and `max`, each clamped to the range of a
    /// scale.
    pub(crate) fn spanning(min: f32, max: f32) -> LogScale {
        let low = safe_log(min);
        let high = safe_log(max).max(low);
        LogScale { low, step: (high - low) / 255.0 }
    }

    /// Returns the scale with these two numbers; `None` if they are out of range.
    pub(crate) fn from_parts(low: f32, step: f32) -> Option<LogScale> {
        let sound = low.is_finite() && step.is_finite() && step >= 0.0;
        let bounded = low >= -MAX_LOG - 1.0 && low + 255.0 * step <= MAX_LOG + 1.0;
        (sound && bounded).then_some(LogScale { low, step })
    }

    /// Returns the two numbers that [`LogScale::from_parts`] takes.
    pub(crate) fn parts(&self) -> (f32, f32) {
        (self.low, self.step)
    }

    /// Returns the byte nearest to `value`. A value outside the scale gets the byte of the nearer end, and
    /// one that is not positive gets 0.
    pub(crate) fn encode(&self, value: f32) -> u8 {
        if self.step <= 0.0 {
            return 0;
        }
        // A cast from float to integer saturates and turns NaN into 0.
        ((safe_log(value) - self.low) / self.step).round() as u8
    }

    /// Returns the value of a byte.
    pub(crate) fn decode(&self, byte: u8) -> f32 {
        (self.low + self.step * f32::from(byte)).exp()
    }
}

/// Returns the natural logarithm, clamped to [`MAX_LOG`]; the lowest value for NaN and what is not positive.
fn safe_log(value: f32) -> f32 {
    if value > 0.0 { value.ln().clamp(-MAX_LOG, MAX_LOG) } else { -MAX_LOG }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_relative_precision() {
        let scale = LogScale::spanning(0.01, 10.0);
        let half_step = (1000f32.ln() / 255.0 / 2.0).exp() - 1.0;
        for i in 0..1000 {
            let value = 0.01 * 1000f32.powf(i as f32 / 999.0);
            let back = scale.decode(scale.encode(value));
            assert!((back / value - 1.0).abs() < half_step * 1.01, "{value} came back as {back}");
        }
    }

    #[test]
    fn clips_what_it_cannot_hold() {
        let scale = LogScale::spanning(0.5, 2.0);
        for bad in [f32::NAN, 0.0, -1.0, f32::NEG_INFINITY, 1e-30] {
            assert_eq!(scale.encode(bad), 0);
        }
        assert_eq!(scale.encode(f32::INFINITY), 255);
        assert_eq!(LogScale::spanning(1.0, 1.0).encode(7.0), 0);
        assert!(LogScale::spanning(2.0, 1.0).decode(255) > 1.9);
    }

    #[test]
    fn refuses_scales_out_of_range() {
        assert!(LogScale::from_parts(f32::NAN, 1.0).is_none());
        assert!(LogScale::from_parts(0.0, -1.0).is_none());
        assert!(LogScale::from_parts(0.0, 1.0).is_none());
        let scale = LogScale::spanning(0.0, f32::INFINITY);
        assert_eq!(LogScale::from_parts(scale.parts().0, scale.parts().1), Some(scale));
    }
}
