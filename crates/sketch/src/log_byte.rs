//! One positive number in one byte, on a logarithmic scale: equal *relative* precision everywhere.

/// Largest magnitude of a logarithm on a scale, so that every decoded value is an ordinary positive `f32`.
const MAX_LOG: f32 = 40.0;

/// A logarithmic scale of 256 steps: byte `b` stands for `exp(low + b * step)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct LogByte {
    low: f32,
    step: f32,
}

impl LogByte {
    /// A scale whose first and last byte stand for `min` and `max` (both made positive and ordinary).
    pub(crate) fn spanning(min: f32, max: f32) -> LogByte {
        let low = safe_log(min);
        let high = safe_log(max).max(low);
        LogByte { low, step: (high - low) / 255.0 }
    }

    /// Reads a scale back from its two stored numbers; `None` if they make no sense.
    pub(crate) fn from_parts(low: f32, step: f32) -> Option<LogByte> {
        let sound = low.is_finite() && step.is_finite() && step >= 0.0;
        let bounded = low >= -MAX_LOG - 1.0 && low + 255.0 * step <= MAX_LOG + 1.0;
        (sound && bounded).then_some(LogByte { low, step })
    }

    pub(crate) fn parts(&self) -> (f32, f32) {
        (self.low, self.step)
    }

    /// The byte nearest to `value`; what lies outside the scale (or is not a positive number) goes to its ends.
    pub(crate) fn encode(&self, value: f32) -> u8 {
        if self.step <= 0.0 {
            return 0;
        }
        // A float-to-integer cast saturates and takes NaN to zero.
        ((safe_log(value) - self.low) / self.step).round() as u8
    }

    pub(crate) fn decode(&self, byte: u8) -> f32 {
        (self.low + self.step * f32::from(byte)).exp()
    }
}

fn safe_log(value: f32) -> f32 {
    if value > 0.0 { value.ln().clamp(-MAX_LOG, MAX_LOG) } else { -MAX_LOG }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_relative_precision() {
        let scale = LogByte::spanning(0.01, 10.0);
        let half_step = (1000f32.ln() / 255.0 / 2.0).exp() - 1.0;
        for i in 0..1000 {
            let value = 0.01 * 1000f32.powf(i as f32 / 999.0);
            let back = scale.decode(scale.encode(value));
            assert!((back / value - 1.0).abs() < half_step * 1.01, "{value} came back as {back}");
        }
    }

    #[test]
    fn clips_what_it_cannot_hold() {
        let scale = LogByte::spanning(0.5, 2.0);
        for bad in [f32::NAN, 0.0, -1.0, f32::NEG_INFINITY, 1e-30] {
            assert_eq!(scale.encode(bad), 0);
        }
        assert_eq!(scale.encode(f32::INFINITY), 255);
        assert_eq!(LogByte::spanning(1.0, 1.0).encode(7.0), 0);
        assert!(LogByte::spanning(2.0, 1.0).decode(255) > 1.9);
    }

    #[test]
    fn refuses_senseless_scales() {
        assert!(LogByte::from_parts(f32::NAN, 1.0).is_none());
        assert!(LogByte::from_parts(0.0, -1.0).is_none());
        assert!(LogByte::from_parts(0.0, 1.0).is_none());
        let scale = LogByte::spanning(0.0, f32::INFINITY);
        assert_eq!(LogByte::from_parts(scale.parts().0, scale.parts().1), Some(scale));
    }
}
