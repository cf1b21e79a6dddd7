//! The stored form of a sketcher. All numbers are little-endian. Every length follows from the header and is
//! checked before memory is allocated for it.
//!
//! | part | type | meaning |
//! |---|---|---|
//! | header | 3 bytes | `LSK` |
//! | | u8 | version, 1 |
//! | | u8 | form: 0 untrained, 1 trained, 2 float16, 3 trained in place |
//! | | u32 | `dim`, the dimensions of an embedding |
//! | untrained | u64 | seed of the rotation |
//! | trained, also in place | u16 | bytes of a sketch |
//! | | u64 | seed of the rotation of the untrained form |
//! | | 6 u16 | number of components with 6, 5, 4, 3, 2 and 1 bits; their sum is `n` |
//! | | f32 | `Parameters::mean_step` |
//! | | 2 f32 | `Parameters::deviation_scale`: logarithm of the lowest value, step between logarithms |
//! | | 8 f32 | `Calibration`, in the order of its fields |
//! | | `n` u8 | `Parameters::deviations` |
//! | | `n` bits | `StoredComponent::eight_bit`, lowest bit of a byte first, padded to whole bytes |
//! | | `dim` i8 | `Parameters::mean` |
//! | | `n` components | `dim` i8 each if `eight_bit`, else `dim` times four bits: value + 8, low half first |

use crate::coder::Calibration;
use crate::error::SketchError;
use crate::limits::{MAX_DIM, MAX_SKETCH_BYTES, MIN_SKETCH_BYTES};
use crate::log_scale::LogScale;
use crate::trained::{Parameters, StoredComponent};
use crate::trellis::MAX_BITS;

/// The first bytes of a stored sketcher.
const MAGIC: &[u8; 3] = b"LSK";
/// The version that this crate writes, and the only one that it reads.
const VERSION: u8 = 1;
/// Form byte of an untrained sketcher.
const UNTRAINED: u8 = 0;
/// Form byte of a trained sketcher.
const TRAINED: u8 = 1;
/// Form byte of a sketcher whose sketches are embeddings.
const FLOAT16: u8 = 2;

/// Form byte of a sketcher trained in place.
const TRAINED_IN_PLACE: u8 = 3;

/// What stored bytes stand for.
pub(crate) enum Stored {
    Untrained { dim: usize, seed: u64 },
    Trained(Parameters),
    TrainedInPlace(Parameters),
    Float16 { dim: usize },
}

/// Returns the stored form of an untrained sketcher.
pub(crate) fn write_untrained(dim: usize, seed: u64) -> Vec<u8> {
    let mut out = header(UNTRAINED, dim);
    out.extend(seed.to_le_bytes());
    out
}

/// Returns the stored form of a sketcher whose sketches are embeddings.
pub(crate) fn write_float16(dim: usize) -> Vec<u8> {
    header(FLOAT16, dim)
}

/// Returns the stored form of a trained sketcher.
pub(crate) fn write_trained(parameters: &Parameters, in_place: bool) -> Vec<u8> {
    let mut out = header(if in_place { TRAINED_IN_PLACE } else { TRAINED }, parameters.dim);
    out.extend((parameters.sketch_bytes as u16).to_le_bytes());
    out.extend(parameters.seed.to_le_bytes());
    for bits in (1..=MAX_BITS).rev() {
        let count = parameters.component_bits.iter().filter(|own| **own == bits).count();
        out.extend((count as u16).to_le_bytes());
    }
    let (low, step) = parameters.deviation_scale.parts();
    let calibration = calibration_numbers(&parameters.calibration);
    out.extend(
        [parameters.mean_step, low, step].iter().chain(&calibration).flat_map(|value| value.to_le_bytes()),
    );
    out.extend(&parameters.deviations);
    let bit = |(place, component): (usize, &StoredComponent)| u8::from(component.eight_bit) << place;
    out.extend(parameters.basis.chunks(8).map(|eight| eight.iter().enumerate().map(bit).sum::<u8>()));
    out.extend(parameters.mean.iter().map(|value| *value as u8));
    for component in &parameters.basis {
        write_component(component, &mut out);
    }
    out
}

/// Returns the numbers of a calibration in the order in which they are stored.
fn calibration_numbers(calibration: &Calibration) -> [f32; 8] {
    let Calibration {
        total_variance,
        gain_correction,
        error_base,
        error_slope,
        error_min,
        residual_mean,
        outside_mean,
        outside_alignment,
    } = *calibration;
    [
        total_variance,
        gain_correction,
        error_base,
        error_slope,
        error_min,
        residual_mean,
        outside_mean,
        outside_alignment,
    ]
}

/// Appends the integers of a component. A last half byte without a value becomes 0.
fn write_component(component: &StoredComponent, out: &mut Vec<u8>) {
    if component.eight_bit {
        out.extend(component.values.iter().map(|value| *value as u8));
    } else {
        let half = |value: Option<&i8>| (value.copied().unwrap_or(-8) + 8) as u8 & 15;
        out.extend(component.values.chunks(2).map(|pair| half(pair.first()) | half(pair.get(1)) << 4));
    }
}

/// Returns the header.
fn header(form: u8, dim: usize) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.extend([VERSION, form]);
    out.extend((dim as u32).to_le_bytes());
    out
}

/// Reads a stored sketcher. [`Parameters`] are not checked any further than this format requires.
///
/// # Errors
///
/// [`SketchError::Damaged`].
pub(crate) fn read(bytes: &[u8]) -> Result<Stored, SketchError> {
    let mut reader = Reader(bytes);
    if reader.take(MAGIC.len())? != MAGIC {
        return Err(SketchError::Damaged("not a sketcher"));
    }
    if reader.u8()? != VERSION {
        return Err(SketchError::Damaged("an unknown version"));
    }
    let form = reader.u8()?;
    let dim = reader.u32()? as usize;
    if dim == 0 || dim > MAX_DIM {
        return Err(SketchError::Damaged("an impossible dimension"));
    }
    let stored = match form {
        UNTRAINED => Stored::Untrained { dim, seed: reader.u64()? },
        TRAINED => Stored::Trained(read_trained(&mut reader, dim)?),
        TRAINED_IN_PLACE => Stored::TrainedInPlace(read_trained(&mut reader, dim)?),
        FLOAT16 => Stored::Float16 { dim },
        _ => return Err(SketchError::Damaged("an unknown form")),
    };
    if reader.0.is_empty() { Ok(stored) } else { Err(SketchError::Damaged("bytes left over")) }
}

/// Reads what follows the header of a trained sketcher.
fn read_trained(reader: &mut Reader, dim: usize) -> Result<Parameters, SketchError> {
    let sketch_bytes = usize::from(reader.u16()?);
    if !(MIN_SKETCH_BYTES..=MAX_SKETCH_BYTES).contains(&sketch_bytes) {
        return Err(SketchError::Damaged("an impossible number of bytes per sketch"));
    }
    let seed = reader.u64()?;
    let mut component_bits = Vec::new();
    for bits in (1..=MAX_BITS).rev() {
        let count = usize::from(reader.u16()?);
        if component_bits.len() + count > dim {
            return Err(SketchError::Damaged("more components than dimensions"));
        }
        component_bits.extend(std::iter::repeat_n(bits, count));
    }
    let mean_step = reader.f32()?;
    let (low, step) = (reader.f32()?, reader.f32()?);
    let deviation_scale =
        LogScale::from_parts(low, step).ok_or(SketchError::Damaged("an impossible scale"))?;
    let calibration = Calibration {
        total_variance: reader.f32()?,
        gain_correction: reader.f32()?,
        error_base: reader.f32()?,
        error_slope: reader.f32()?,
        error_min: reader.f32()?,
        residual_mean: reader.f32()?,
        outside_mean: reader.f32()?,
        outside_alignment: reader.f32()?,
    };
    let deviations = reader.take(component_bits.len())?.to_vec();
    let eight_bit = reader.take(component_bits.len().div_ceil(8))?;
    let mean = reader.i8s(dim)?;
    let basis =
        (0..component_bits.len()).map(|i| read_component(reader, dim, eight_bit[i / 8] >> (i % 8) & 1 == 1));
    let basis = basis.collect::<Result<_, _>>()?;
    Ok(Parameters {
        dim,
        sketch_bytes,
        seed,
        mean,
        mean_step,
        component_bits,
        deviations,
        deviation_scale,
        basis,
        calibration,
    })
}

/// Reads the integers of a component.
fn read_component(reader: &mut Reader, dim: usize, eight_bit: bool) -> Result<StoredComponent, SketchError> {
    let values = if eight_bit {
        reader.i8s(dim)?
    } else {
        let halves = reader.take(dim.div_ceil(2))?.iter().flat_map(|byte| [byte & 15, byte >> 4]);
        halves.take(dim).map(|half| half as i8 - 8).collect()
    };
    Ok(StoredComponent { values, eight_bit })
}

/// Takes values off the front of a slice.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Takes `count` bytes.
    fn take(&mut self, count: usize) -> Result<&'a [u8], SketchError> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(SketchError::Damaged("cut short"))?;
        self.0 = rest;
        Ok(taken)
    }

    /// Takes `N` bytes.
    fn array<const N: usize>(&mut self) -> Result<[u8; N], SketchError> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    fn u8(&mut self) -> Result<u8, SketchError> {
        Ok(self.array::<1>()?[0])
    }

    fn u16(&mut self) -> Result<u16, SketchError> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    fn u32(&mut self) -> Result<u32, SketchError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, SketchError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn f32(&mut self) -> Result<f32, SketchError> {
        Ok(f32::from_le_bytes(self.array()?))
    }

    fn i8s(&mut self, count: usize) -> Result<Vec<i8>, SketchError> {
        Ok(self.take(count)?.iter().map(|byte| *byte as i8).collect())
    }
}
