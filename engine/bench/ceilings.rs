//! Ceilings of a device: its best rates, measured with kernels that do one thing only.

use std::time::Duration;

use ruminate_shaders::ceiling::{self, Number};
use ruminate_shaders::{Launch, Place};

use super::{Bench, Sample, blank};
use crate::device::Device;
use crate::error::{Error, Result};

/// Bytes of the memory that is read from end to end: more than any cache holds.
const STREAM: u64 = 1 << 30;
/// Maximum bytes that one launch reads.
const PIECE: u64 = 128 << 20;
/// Divisor of the free memory: the memory that is read may take a quarter of it.
const SHARE: u64 = 4;
/// Invocations per workgroup that suit GPUs.
const WG: u32 = 64;
/// Minimum time of one measurement.
const LEAST: Duration = Duration::from_millis(200);
/// Workgroups and rounds of a multiply-add launch. In f32 these are 5.6 billion multiply-adds, so the launch's own cost is negligible.
const GROUPS: u32 = 4096;
const ROUNDS: u32 = 256;

/// Best rates of a device, each as a sample of the time per unit of work.
#[derive(Clone, Debug, PartialEq)]
pub struct Ceilings {
    /// Seconds per byte read from storage buffers.
    pub read_buffer: Sample,
    /// Seconds per byte read from textures, on devices where kernels read textures.
    pub read_texture: Option<Sample>,
    /// Seconds per byte of a copy from buffer to buffer, where each byte read and each byte written counts.
    pub copy: Sample,
    /// Seconds per floating-point operation in f32. A multiply-add counts as two operations.
    pub f32: Sample,
    /// Seconds per floating-point operation in f16, on devices whose shaders compute in f16.
    pub f16: Option<Sample>,
    /// Seconds per operation on 8-bit integers, four of which are multiplied at once, on devices where kernels do so.
    pub int8: Option<Sample>,
    /// Seconds per floating-point operation with cooperative matrices, on a device opened with them.
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
    /// Multiply-adds of 8-bit integers.
    Int8,
    /// Multiply-adds of cooperative matrices.
    Cooperative,
}

impl Ceiling {
    /// All ceilings. `ReadBuffer`, `F32` and `Copy`, which every device has, come first.
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

    /// Whether the ceiling is a rate of bytes, as opposed to operations.
    #[must_use]
    pub const fn is_of_bytes(self) -> bool {
        matches!(self, Self::ReadBuffer | Self::ReadTexture | Self::Copy)
    }

    /// Measures the seconds per byte or operation. Returns `None` if the device lacks a needed feature.
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
                // Software drivers need many instructions for an operation that is one instruction on a GPU.
                let rounds = if caps.software { ROUNDS / 8 } else { ROUNDS };
                caps.bytes.then(|| compute(ceiling::dot_int8(GROUPS, rounds)))
            }
            Self::Cooperative => ceiling::multiply_matrices(&caps, GROUPS / 2, 2 * ROUNDS).map(compute),
        };
        sample.transpose()
    }
}

/// Measures the seconds per byte read from a buffer or texture, with the faster of two workgroup sizes.
fn read(device: &Device, place: Place, most: u64, budget: u64, repetitions: u32) -> Result<Sample> {
    let caps = device.caps();
    let sized = |wg| Stream::new(device, &ceiling::stream(&caps, place, wg, most.min(PIECE).min(budget)), budget);
    // Software drivers run a workgroup's subgroups one after the other, and are faster if there are few of them.
    let (narrow, wide) = (sized(caps.subgroups.map_or(WG, |(least, _)| least))?, sized(WG)?);
    if narrow.once < wide.once { narrow } else { wide }.sample(repetitions)
}

/// Launches that read or write memory from end to end, each with its own memory.
struct Stream {
    bench: Bench,
    bytes: f64,
    /// Seconds per byte in a single measurement.
    once: f64,
}

impl Stream {
    /// Prepares as many launches of a piece as fit into `budget` bytes, or fewer if the device needs long for one.
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
            // Frees the memory of this launch before all launches are prepared.
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
    /// Measures all ceilings of a device.
    ///
    /// # Errors
    /// Too little memory, or a fault of the device.
    pub fn measure(device: &Device, repetitions: u32) -> Result<Self> {
        let optional = |ceiling: Ceiling| ceiling.measure(device, repetitions);
        let everywhere = |ceiling: Ceiling| {
            let lacks = || Error::Launch {
                launch: ceiling.name().to_owned(),
                problem: "not supported on this device".to_owned(),
            };
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

    /// Returns the sample of a ceiling, if it was measured.
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

    /// Seconds per byte of the faster way of reading, buffer or texture. It is the shortest time of the sample: a ceiling counts if it was reached once.
    #[must_use]
    pub fn read(&self) -> f64 {
        let texture = self.read_texture.as_ref().map_or(f64::INFINITY, Sample::least);
        self.read_buffer.least().min(texture)
    }

    /// Seconds per floating-point operation in f32: the shortest time of the sample.
    #[must_use]
    pub fn compute(&self) -> f64 {
        self.f32.least()
    }

    /// Minimum seconds of some work: reading its bytes or computing its operations, whichever takes longer.
    #[must_use]
    pub fn bound(&self, bytes: u64, flops: u64) -> f64 {
        (bytes as f64 * self.read()).max(flops as f64 * self.compute())
    }
}

/// Measures the seconds per operation of a launch.
fn per_operation(device: &Device, launch: &Launch, repetitions: u32) -> Result<Sample> {
    let bench = Bench::new(device, &[(launch.clone(), blank(device, launch)?)])?;
    Ok(bench.sample(repetitions, LEAST)?.times(1.0 / launch.cost.flops as f64))
}
