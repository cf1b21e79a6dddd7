//! The stored form of a sketcher: little-endian, every length known from the header and checked before anything is allocated.
//!
//! ```text
//! "LSK", u8 version, u8 form (0 untrained, 1 trained, 2 float16), u32 dim
//! untrained: u64 seed
//! trained:   u16 sketch bytes, u16 x 6 number of directions of width 6, 5, ..., 1,
//!            f32 x 9: mean step, low and step of spreads, room, factor, base, slope, minimum and maximum of errors
//!            u8 x directions spreads, one bit per direction (low bit first): is it fine?
//!            i8 x dim mean, then each direction: i8 x dim if fine, else dim times four bits (value + 8, low half first)
//! ```

use crate::code::Norm;
use crate::error::SketchError;
use crate::log_byte::LogByte;
use crate::trained::{Parameters, StoredDirection};
use crate::trellis::MAX_WIDTH;
use crate::{MAX_DIM, MAX_SKETCH_BYTES, MIN_SKETCH_BYTES};

const MAGIC: &[u8; 3] = b"LSK";
const VERSION: u8 = 1;
const UNTRAINED: u8 = 0;
const TRAINED: u8 = 1;
const FLOAT16: u8 = 2;

/// What stored bytes stand for.
pub(crate) enum Stored {
    Untrained { dim: usize, seed: u64 },
    Trained(Parameters),
    Float16 { dim: usize },
}

pub(crate) fn write_untrained(dim: usize, seed: u64) -> Vec<u8> {
    let mut out = header(UNTRAINED, dim);
    out.extend(seed.to_le_bytes());
    out
}

pub(crate) fn write_float16(dim: usize) -> Vec<u8> {
    header(FLOAT16, dim)
}

pub(crate) fn write_trained(parameters: &Parameters) -> Vec<u8> {
    let mut out = header(TRAINED, parameters.dim);
    out.extend((parameters.sketch_bytes as u16).to_le_bytes());
    for width in (1..=MAX_WIDTH).rev() {
        let count = parameters.widths.iter().filter(|w| **w == width).count();
        out.extend((count as u16).to_le_bytes());
    }
    let (low, step) = parameters.spread_scale.parts();
    let Norm { room, factor, error_base, error_slope, error_min, error_max } = parameters.norm;
    let scales =
        [parameters.mean_step, low, step, room, factor, error_base, error_slope, error_min, error_max];
    out.extend(scales.iter().flat_map(|value| value.to_le_bytes()));
    out.extend(&parameters.spreads);
    let bit = |(place, direction): (usize, &StoredDirection)| u8::from(direction.fine) << place;
    out.extend(parameters.basis.chunks(8).map(|eight| eight.iter().enumerate().map(bit).sum::<u8>()));
    out.extend(parameters.mean.iter().map(|value| *value as u8));
    for direction in &parameters.basis {
        write_direction(direction, &mut out);
    }
    out
}

fn write_direction(direction: &StoredDirection, out: &mut Vec<u8>) {
    if direction.fine {
        out.extend(direction.values.iter().map(|value| *value as u8));
    } else {
        let half = |value: Option<&i8>| (value.copied().unwrap_or(-8) + 8) as u8 & 15;
        out.extend(direction.values.chunks(2).map(|pair| half(pair.first()) | half(pair.get(1)) << 4));
    }
}

fn header(form: u8, dim: usize) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.extend([VERSION, form]);
    out.extend((dim as u32).to_le_bytes());
    out
}

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
        FLOAT16 => Stored::Float16 { dim },
        _ => return Err(SketchError::Damaged("an unknown form")),
    };
    if reader.0.is_empty() { Ok(stored) } else { Err(SketchError::Damaged("bytes left over")) }
}

fn read_trained(reader: &mut Reader, dim: usize) -> Result<Parameters, SketchError> {
    let sketch_bytes = usize::from(reader.u16()?);
    if !(MIN_SKETCH_BYTES..=MAX_SKETCH_BYTES).contains(&sketch_bytes) {
        return Err(SketchError::Damaged("an impossible number of bytes per sketch"));
    }
    let mut widths = Vec::new();
    for width in (1..=MAX_WIDTH).rev() {
        let count = usize::from(reader.u16()?);
        if widths.len() + count > dim {
            return Err(SketchError::Damaged("more directions than dimensions"));
        }
        widths.extend(std::iter::repeat_n(width, count));
    }
    let mean_step = reader.f32()?;
    let (low, step) = (reader.f32()?, reader.f32()?);
    let spread_scale = LogByte::from_parts(low, step).ok_or(SketchError::Damaged("an impossible scale"))?;
    let norm = Norm {
        room: reader.f32()?,
        factor: reader.f32()?,
        error_base: reader.f32()?,
        error_slope: reader.f32()?,
        error_min: reader.f32()?,
        error_max: reader.f32()?,
    };
    let spreads = reader.take(widths.len())?.to_vec();
    let fine = reader.take(widths.len().div_ceil(8))?;
    let mean = reader.i8s(dim)?;
    let basis = (0..widths.len()).map(|i| read_direction(reader, dim, fine[i / 8] >> (i % 8) & 1 == 1));
    let basis = basis.collect::<Result<_, _>>()?;
    Ok(Parameters { dim, sketch_bytes, mean, mean_step, widths, spreads, spread_scale, basis, norm })
}

fn read_direction(reader: &mut Reader, dim: usize, fine: bool) -> Result<StoredDirection, SketchError> {
    let values = if fine {
        reader.i8s(dim)?
    } else {
        let halves = reader.take(dim.div_ceil(2))?.iter().flat_map(|byte| [byte & 15, byte >> 4]);
        halves.take(dim).map(|half| half as i8 - 8).collect()
    };
    Ok(StoredDirection { values, fine })
}

/// Takes values off the front of a slice.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], SketchError> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(SketchError::Damaged("cut short"))?;
        self.0 = rest;
        Ok(taken)
    }

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
