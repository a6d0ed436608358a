//! What a device can do at most, by kernels that do one thing only.

use std::time::Duration;

use ruminate_shaders::ceiling::{self, Number};
use ruminate_shaders::{Launch, Place};

use super::{Bench, Sample, blank};
use crate::device::Device;
use crate::error::{Error, Result};

/// Bytes that are read from end to end: more than any cache holds.
const STREAM: u64 = 1 << 30;
/// Bytes that one launch reads, at most.
const PIECE: u64 = 128 << 20;
/// Share of the free memory that may be taken for it.
const SHARE: u64 = 4;
/// Workgroup that suits GPUs.
const WG: u32 = 64;
/// How long one measurement takes at least.
const LEAST: Duration = Duration::from_millis(200);
/// Workgroups and rounds of the multiply-adds: 168 million on a pass, so that a launch's own cost does not count.
const GROUPS: u32 = 4096;
const ROUNDS: u32 = 256;

/// Rates of a device. Each is a sample of the time it took, per unit of the work that was done in that time.
#[derive(Clone, Debug, PartialEq)]
pub struct Ceilings {
    /// Seconds per byte read from storage buffers.
    pub read_buffer: Sample,
    /// Seconds per byte read from textures, where kernels read them.
    pub read_texture: Option<Sample>,
    /// Seconds per byte, of those read and those written, of copying from buffer to buffer.
    pub copy: Sample,
    /// Seconds per floating-point operation, multiply-adds counted as two, in f32.
    pub f32: Sample,
    /// The same in f16, where shaders compute in it.
    pub f16: Option<Sample>,
    /// Seconds per operation on whole numbers of 8 bits, four of which are multiplied at once, where kernels do that.
    pub int8: Option<Sample>,
    /// Seconds per floating-point operation of matrices that subgroups multiply, on a device that was opened with them.
    pub cooperative: Option<Sample>,
}

/// One of the [`Ceilings`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ceiling {
    /// Reading a storage buffer.
    ReadBuffer,
    /// Reading a texture.
    ReadTexture,
    /// Copying from buffer to buffer.
    Copy,
    /// Multiply-adds in f32.
    F32,
    /// Multiply-adds in f16.
    F16,
    /// Multiply-adds of whole numbers of 8 bits.
    Int8,
    /// Multiply-adds of cooperative matrices.
    Cooperative,
}

impl Ceiling {
    /// All of them, those that every device has first.
    pub const ALL: [Self; 7] =
        [Self::ReadBuffer, Self::F32, Self::Copy, Self::ReadTexture, Self::F16, Self::Int8, Self::Cooperative];

    /// Name in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ReadBuffer => "read a buffer",
            Self::ReadTexture => "read a texture",
            Self::Copy => "copy (read and write)",
            Self::F32 => "multiply-add f32",
            Self::F16 => "multiply-add f16",
            Self::Int8 => "multiply-add int8",
            Self::Cooperative => "multiply-add cooperative",
        }
    }

    /// Whether it is a rate of bytes, and not of operations.
    #[must_use]
    pub const fn is_of_bytes(self) -> bool {
        matches!(self, Self::ReadBuffer | Self::ReadTexture | Self::Copy)
    }

    /// Measures it: seconds per byte or operation. `None` where the device lacks what it needs.
    ///
    /// # Errors
    /// Too little memory, or a fault of the device.
    pub fn measure(self, device: &Device, repetitions: u32) -> Result<Option<Sample>> {
        let caps = device.caps();
        let budget = device.memory().available.map_or(STREAM, |free| STREAM.min(free / SHARE));
        let compute = |launch: Launch| per_operation(device, &launch, repetitions);
        let multiply_add = |number| compute(ceiling::multiply_add(number, GROUPS, ROUNDS));
        let sample = match self {
            Self::ReadBuffer => Some(read(device, Place::Buffer, caps.max_binding, budget, repetitions)),
            Self::ReadTexture => {
                caps.lanes.map(|_| read(device, Place::Texture, caps.max_texture, budget, repetitions))
            }
            Self::Copy => {
                // Source and target.
                let budget = budget / 2;
                let piece = ceiling::copy(&caps, caps.max_binding.min(PIECE).min(budget));
                Some(Stream::new(device, &piece, budget).and_then(|stream| stream.sample(repetitions)))
            }
            Self::F32 => Some(multiply_add(Number::F32)),
            Self::F16 => caps.f16.then(|| multiply_add(Number::F16)),
            Self::Int8 => {
                // Software drivers take many instructions for what is one on a GPU.
                let rounds = if caps.software { ROUNDS / 8 } else { ROUNDS };
                caps.bytes.then(|| compute(ceiling::dot_int8(GROUPS, rounds)))
            }
            Self::Cooperative => ceiling::multiply_matrices(&caps, GROUPS / 2, 2 * ROUNDS).map(compute),
        };
        sample.transpose()
    }
}

/// Seconds per byte read from a place, by the better of two workgroups.
fn read(device: &Device, place: Place, most: u64, budget: u64, repetitions: u32) -> Result<Sample> {
    let caps = device.caps();
    let sized = |wg| Stream::new(device, &ceiling::stream(&caps, place, wg, most.min(PIECE).min(budget)), budget);
    // Software drivers run a workgroup's subgroups one after the other, and then like them to be short.
    let (narrow, wide) = (sized(caps.subgroups.map_or(WG, |(least, _)| least))?, sized(WG)?);
    if narrow.once < wide.once { narrow } else { wide }.sample(repetitions)
}

/// Launches that read or write memory from end to end, each with memory of its own.
struct Stream {
    bench: Bench,
    bytes: f64,
    /// Seconds per byte, measured once.
    once: f64,
}

impl Stream {
    /// As many launches of a piece as fit into so many bytes, or fewer on a device that takes long for one of them.
    fn new(device: &Device, piece: &Launch, budget: u64) -> Result<Self> {
        let of = |launches: u64| -> Result<(Bench, Duration)> {
            let launches = (0..launches).map(|_| Ok((piece.clone(), blank(device, piece)?)));
            let bench = Bench::new(device, &launches.collect::<Result<Vec<_>>>()?)?;
            let once = bench.time(1)?.max(Duration::from_nanos(1));
            Ok((bench, once))
        };
        let bytes = piece.cost.bytes as f64;
        let largest = piece.sizes.iter().copied().max().unwrap_or(1);
        let (bench, once) = of(1)?;
        let wanted = LEAST.as_nanos().div_ceil(once.as_nanos());
        let count = (budget / largest).max(1).min(u64::try_from(wanted).unwrap_or(u64::MAX));
        let (bench, once) = if count == 1 {
            (bench, once)
        } else {
            // Its memory is free for the others.
            drop(bench);
            of(count)?
        };
        Ok(Self { bench, bytes, once: once.as_secs_f64() / (bytes * count as f64) })
    }

    /// Seconds per byte.
    fn sample(&self, repetitions: u32) -> Result<Sample> {
        Ok(self.bench.sample(repetitions, LEAST)?.times(1.0 / self.bytes))
    }
}

impl Ceilings {
    /// Measures a device.
    ///
    /// # Errors
    /// Too little memory, or a fault of the device.
    pub fn measure(device: &Device, repetitions: u32) -> Result<Self> {
        let optional = |ceiling: Ceiling| ceiling.measure(device, repetitions);
        let everywhere = |ceiling: Ceiling| {
            let lacks =
                || Error::Launch { launch: ceiling.name().to_owned(), problem: "not supported here".to_owned() };
            optional(ceiling)?.ok_or_else(lacks)
        };
        Ok(Self {
            read_buffer: everywhere(Ceiling::ReadBuffer)?,
            read_texture: optional(Ceiling::ReadTexture)?,
            copy: everywhere(Ceiling::Copy)?,
            f32: everywhere(Ceiling::F32)?,
            f16: optional(Ceiling::F16)?,
            int8: optional(Ceiling::Int8)?,
            cooperative: optional(Ceiling::Cooperative)?,
        })
    }

    /// The sample of a ceiling, if the device has it.
    #[must_use]
    pub fn of(&self, ceiling: Ceiling) -> Option<&Sample> {
        match ceiling {
            Ceiling::ReadBuffer => Some(&self.read_buffer),
            Ceiling::ReadTexture => self.read_texture.as_ref(),
            Ceiling::Copy => Some(&self.copy),
            Ceiling::F32 => Some(&self.f32),
            Ceiling::F16 => self.f16.as_ref(),
            Ceiling::Int8 => self.int8.as_ref(),
            Ceiling::Cooperative => self.cooperative.as_ref(),
        }
    }

    /// Seconds per byte in the best way of reading that the device has, at its best: a ceiling is what was reached once.
    #[must_use]
    pub fn read(&self) -> f64 {
        let texture = self.read_texture.as_ref().map_or(f64::INFINITY, Sample::least);
        self.read_buffer.least().min(texture)
    }

    /// Seconds per floating-point operation in f32, at its best.
    #[must_use]
    pub fn compute(&self) -> f64 {
        self.f32.least()
    }

    /// Seconds that work takes at least: reading its bytes or computing its operations, whichever takes longer.
    #[must_use]
    pub fn bound(&self, bytes: u64, flops: u64) -> f64 {
        (bytes as f64 * self.read()).max(flops as f64 * self.compute())
    }
}

/// Seconds per operation.
fn per_operation(device: &Device, launch: &Launch, repetitions: u32) -> Result<Sample> {
    let bench = Bench::new(device, &[(launch.clone(), blank(device, launch)?)])?;
    Ok(bench.sample(repetitions, LEAST)?.times(1.0 / launch.cost.flops as f64))
}
