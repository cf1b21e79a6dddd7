//! The stored form of a sketcher: little-endian, every length known from the header and checked before anything is allocated.
//!
//! ```text
//! "LSK" 1 byte version, 1 byte form (0 untrained, 1 trained), u32 dim
//! untrained: u64 seed
//! trained:   u16 directions, u16 sketch bytes, u8 set of widths (bit w - 1: shapes of width w follow),
//!            f32 x 11 scales (mean step, outer share, calibration, then low and step of spreads, shares, gain, error),
//!            f32 levels of each width in the set, ascending widths,
//!            5 bytes per direction: u16 byte, u8 shift and width (low and high half), u8 spread, u8 share,
//!            i8 x dim mean, i8 x directions x dim basis
//! ```

use crate::code::{MAX_WIDTH, Slot};
use crate::error::SketchError;
use crate::log_byte::LogByte;
use crate::trained::{Direction, Parameters};
use crate::{MAX_DIM, MAX_SKETCH_BYTES, MIN_SKETCH_BYTES};

const MAGIC: &[u8; 3] = b"LSK";
const VERSION: u8 = 1;
const UNTRAINED: u8 = 0;
const TRAINED: u8 = 1;
const DIRECTION_BYTES: usize = 5;

/// What stored bytes stand for.
pub(crate) enum Stored {
    Untrained { dim: usize, seed: u64 },
    Trained(Parameters),
}

pub(crate) fn write_untrained(dim: usize, seed: u64) -> Vec<u8> {
    let mut out = header(UNTRAINED, dim);
    out.extend(seed.to_le_bytes());
    out
}

pub(crate) fn write_trained(parameters: &Parameters) -> Vec<u8> {
    let mut out = header(TRAINED, parameters.dim);
    out.extend((parameters.directions.len() as u16).to_le_bytes());
    out.extend((parameters.sketch_bytes as u16).to_le_bytes());
    let present =
        |width: &u8| parameters.shapes.get(usize::from(*width)).is_some_and(|levels| !levels.is_empty());
    out.push((1..=MAX_WIDTH).filter(present).map(|width| 1 << (width - 1)).sum());
    let mut scales = vec![parameters.mean_step, parameters.outer_share, parameters.calibration];
    for scale in [parameters.spreads, parameters.shares, parameters.gain, parameters.error] {
        let (low, step) = scale.parts();
        scales.extend([low, step]);
    }
    let levels = parameters.shapes.iter().flatten();
    out.extend(scales.iter().chain(levels).flat_map(|value| value.to_le_bytes()));
    for direction in &parameters.directions {
        out.extend(direction.slot.byte.to_le_bytes());
        out.push(direction.slot.shift | direction.slot.width << 4);
        out.extend([direction.spread, direction.share]);
    }
    out.extend(parameters.mean.iter().chain(&parameters.basis).map(|value| *value as u8));
    out
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
        _ => return Err(SketchError::Damaged("an unknown form")),
    };
    if reader.0.is_empty() { Ok(stored) } else { Err(SketchError::Damaged("bytes left over")) }
}

fn read_trained(reader: &mut Reader, dim: usize) -> Result<Parameters, SketchError> {
    let count = usize::from(reader.u16()?);
    let sketch_bytes = usize::from(reader.u16()?);
    if count > dim || !(MIN_SKETCH_BYTES..=MAX_SKETCH_BYTES).contains(&sketch_bytes) {
        return Err(SketchError::Damaged("an impossible number of directions or bytes"));
    }
    let widths = reader.u8()?;
    if u16::from(widths) >> MAX_WIDTH != 0 {
        return Err(SketchError::Damaged("a direction of impossible width"));
    }
    let (mean_step, outer_share, calibration) = (reader.f32()?, reader.f32()?, reader.f32()?);
    let (spreads, shares) = (reader.scale()?, reader.scale()?);
    let (gain, error) = (reader.scale()?, reader.scale()?);
    let mut shapes = vec![Vec::new()];
    for width in 1..=MAX_WIDTH {
        let count = if widths >> (width - 1) & 1 == 1 { 1usize << width } else { 0 };
        shapes.push((0..count).map(|_| reader.f32()).collect::<Result<_, _>>()?);
    }
    let directions = reader.take(count * DIRECTION_BYTES)?.chunks_exact(DIRECTION_BYTES);
    let directions = directions.map(|bytes| Direction {
        slot: Slot {
            byte: u16::from_le_bytes([bytes[0], bytes[1]]),
            shift: bytes[2] & 15,
            width: bytes[2] >> 4,
        },
        spread: bytes[3],
        share: bytes[4],
    });
    let parameters = Parameters {
        dim,
        sketch_bytes,
        directions: directions.collect(),
        mean: reader.i8s(dim)?,
        mean_step,
        basis: reader.i8s(count * dim)?,
        shapes,
        spreads,
        shares,
        outer_share,
        gain,
        error,
        calibration,
    };
    parameters.check().map_err(SketchError::Damaged)?;
    Ok(parameters)
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

    fn scale(&mut self) -> Result<LogByte, SketchError> {
        let (low, step) = (self.f32()?, self.f32()?);
        LogByte::from_parts(low, step).ok_or(SketchError::Damaged("an impossible scale"))
    }
}
