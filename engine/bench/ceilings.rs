//! What a device can do at most, by kernels that do one thing only.

use std::time::Duration;

use ruminate_shaders::ceiling::{self, Number};
use ruminate_shaders::{Launch, Place};

use super::{Bench, Sample, blank};
use crate::device::Device;
use crate::error::Result;

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

/// Rates of a device. Each is a sample of what it took, and the work that was done in that time.
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
}

impl Ceilings {
    /// Measures a device.
    ///
    /// # Errors
    /// Too little memory, or a fault of the device.
    pub fn measure(device: &Device, repetitions: u32) -> Result<Self> {
        let caps = device.caps();
        let budget = device.memory().available.map_or(STREAM, |free| STREAM.min(free / SHARE));
        let lanes = caps.subgroups.map_or(WG, |(least, _)| least);
        let read = |place, most: u64| {
            let sized = |wg| {
                let piece = ceiling::stream(&caps, place, wg, most.min(PIECE).min(budget));
                per(device, &many(&piece, budget), repetitions, |launch| launch.cost.bytes)
            };
            // Software drivers run a workgroup's subgroups one after the other, and then like them to be short.
            let (narrow, wide) = (sized(lanes)?, sized(WG)?);
            Ok(if narrow.least() < wide.least() { narrow } else { wide })
        };
        // Source and target.
        let piece = ceiling::copy(&caps, caps.max_binding.min(PIECE).min(budget / 2));
        let f32 = ceiling::multiply_add(Number::F32, GROUPS, ROUNDS);
        let f16 = ceiling::multiply_add(Number::F16, GROUPS, ROUNDS);
        let compute = |launch: Launch| per(device, &[launch], repetitions, |launch| launch.cost.flops);
        Ok(Self {
            read_buffer: read(Place::Buffer, caps.max_binding)?,
            read_texture: caps.lanes.map(|_| read(Place::Texture, caps.max_texture)).transpose()?,
            copy: per(device, &many(&piece, budget / 2), repetitions, |launch| launch.cost.bytes)?,
            f32: compute(f32)?,
            f16: caps.f16.then(|| compute(f16)).transpose()?,
        })
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

/// As many launches of a piece as make up so many bytes.
fn many(piece: &Launch, bytes: u64) -> Vec<Launch> {
    let largest = piece.sizes.iter().copied().max().unwrap_or(1);
    vec![piece.clone(); usize::try_from((bytes / largest).max(1)).unwrap_or(1)]
}

/// Seconds per unit of work, with memory of its own for every launch.
fn per(device: &Device, launches: &[Launch], repetitions: u32, work: fn(&Launch) -> u64) -> Result<Sample> {
    let each = work(&launches[0]) as f64;
    let launches = launches.iter().map(|launch| Ok((launch.clone(), blank(device, launch)?)));
    let bench = Bench::new(device, &launches.collect::<Result<Vec<_>>>()?)?;
    Ok(bench.sample(repetitions, LEAST)?.times(1.0 / each))
}
