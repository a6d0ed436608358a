//! How long work really takes, beside what it is assumed to take: pieces for hosts that draw frames must fit a budget.
//!
//! Where the device has timestamps, every piece of an execution is timed by them. Where not, the host's looks at it give bounds: a
//! piece that is not done yet took at least as long as it has been under way, one that is done took at most that long.

use std::sync::{Mutex, OnceLock, PoisonError};

use crate::counters::{Tally, add};
use crate::error::Result;
use crate::gpu::Gpu;

/// Begin and end of a piece, 8 bytes each.
pub(crate) const STAMPS: u64 = 16;
/// What is assumed before anything was seen: a first piece that is too short costs nothing.
const CAUTIOUS: f64 = 4.0;
/// How much of a better time is believed at once.
const TRUST: f64 = 0.2;
/// By how much a worse time lengthens what is assumed, at most: one time that something else disturbed must not count too long.
const ALARM: f64 = 2.0;
/// The ratio stays in a range that one wrong time cannot lead far out of.
const RANGE: (f64, f64) = (1e-3, 1e3);

/// The pace of a device.
#[derive(Debug)]
pub(crate) struct Pace {
    ratio: Mutex<f64>,
    clock: OnceLock<Clock>,
}

/// What timing a submission takes. All submissions share it: they follow each other.
#[derive(Debug)]
pub(crate) struct Clock {
    set: wgpu::QuerySet,
    resolved: wgpu::Buffer,
}

impl Default for Pace {
    fn default() -> Self {
        Self { ratio: Mutex::new(CAUTIOUS), clock: OnceLock::new() }
    }
}

impl Pace {
    /// Real seconds per assumed second.
    pub(crate) fn ratio(&self) -> f64 {
        *self.ratio.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes notice of work that was assumed to take some seconds and really took some within these bounds.
    pub(crate) fn saw(&self, assumed: f64, at_least: f64, at_most: f64) {
        let mut ratio = self.ratio.lock().unwrap_or_else(PoisonError::into_inner);
        let (low, high) = (at_least / assumed, at_most / assumed);
        if low > *ratio {
            *ratio = low.min(ALARM * *ratio);
        } else if high < *ratio {
            *ratio += TRUST * (high - *ratio);
        }
        *ratio = ratio.clamp(RANGE.0, RANGE.1);
    }

    /// The clock, made at the first call; `None` if the device has none.
    pub(crate) fn clock(&self, gpu: &Gpu, tally: &Tally) -> Result<Option<&Clock>> {
        if !gpu.timestamps {
            return Ok(None);
        }
        if self.clock.get().is_none() {
            let made = gpu.guard(|| "a clock for submissions".to_owned(), || Clock::new(&gpu.device))?;
            add(&tally.buffers, 1);
            // Another thread may have been faster; its clock is as good.
            let _ = self.clock.set(made);
        }
        Ok(self.clock.get())
    }
}

impl Clock {
    fn new(device: &wgpu::Device) -> Self {
        let label = Some("pace");
        let ty = wgpu::QueryType::Timestamp;
        Self {
            set: device.create_query_set(&wgpu::QuerySetDescriptor { label, ty, count: 2 }),
            resolved: device.create_buffer(&wgpu::BufferDescriptor {
                label,
                size: STAMPS,
                usage: wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC,
                mapped_at_creation: false,
            }),
        }
    }

    /// What a pass needs to be timed.
    pub(crate) fn writes(&self) -> wgpu::ComputePassTimestampWrites<'_> {
        wgpu::ComputePassTimestampWrites {
            query_set: &self.set,
            beginning_of_pass_write_index: Some(0),
            end_of_pass_write_index: Some(1),
        }
    }

    /// Copies the times of the pass before to a buffer of at least [`STAMPS`] bytes.
    pub(crate) fn copy(&self, encoder: &mut wgpu::CommandEncoder, to: &wgpu::Buffer) {
        encoder.resolve_query_set(&self.set, 0..2, &self.resolved, 0);
        encoder.copy_buffer_to_buffer(&self.resolved, 0, to, 0, STAMPS);
    }
}

/// Seconds between two timestamps; `None` if the driver wrote nonsense.
#[expect(clippy::cast_precision_loss, reason = "differences of timestamps are small")]
pub(crate) fn seconds(gpu: &Gpu, stamps: &[u8]) -> Option<f64> {
    let (begin, rest) = stamps.split_first_chunk()?;
    let ticks = u64::from_le_bytes(*rest.first_chunk()?).checked_sub(u64::from_le_bytes(*begin))?;
    (ticks > 0).then(|| ticks as f64 * f64::from(gpu.queue.get_timestamp_period()) / 1e9)
}
