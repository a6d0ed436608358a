//! Ratio of real to assumed times, because pieces for hosts that draw frames must fit a budget.
//!
//! On devices with timestamps, these time every piece of an execution. On others, the host's checks give bounds: a piece that is not done yet has taken at
//! least the time since it began, and one that is done has taken at most that time.

use std::sync::{Mutex, OnceLock, PoisonError};

use crate::counters::{Tally, add};
use crate::error::Result;
use crate::gpu::Gpu;

/// Begin and end of a piece, 8 bytes each.
pub(crate) const STAMPS: u64 = 16;
/// Ratio before the first measurement: a first piece that is too short costs nothing.
const CAUTIOUS: f64 = 4.0;
/// Weight of a measurement that lowers the ratio.
const TRUST: f64 = 0.2;
/// Maximum factor by which one measurement raises the ratio, so that a disturbed measurement does not count for too long.
const ALARM: f64 = 2.0;
/// Range of the ratio, so that one wrong time cannot lead far astray.
const RANGE: (f64, f64) = (1e-3, 1e3);

/// Ratio of real to assumed times on a device.
#[derive(Debug)]
pub(crate) struct Pace {
    ratio: Mutex<f64>,
    clock: OnceLock<Clock>,
}

/// Objects that time a submission. All submissions share them, because they run one after another.
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

    /// Records that work with an assumed time really took a time between two bounds, all in seconds.
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

    /// The clock, created at the first call; `None` if the device has no timestamps.
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

    /// Timestamp writes for a pass.
    pub(crate) fn writes(&self) -> wgpu::ComputePassTimestampWrites<'_> {
        wgpu::ComputePassTimestampWrites {
            query_set: &self.set,
            beginning_of_pass_write_index: Some(0),
            end_of_pass_write_index: Some(1),
        }
    }

    /// Copies the timestamps of the last pass to a buffer of at least [`STAMPS`] bytes.
    pub(crate) fn copy(&self, encoder: &mut wgpu::CommandEncoder, to: &wgpu::Buffer) {
        encoder.resolve_query_set(&self.set, 0..2, &self.resolved, 0);
        encoder.copy_buffer_to_buffer(&self.resolved, 0, to, 0, STAMPS);
    }
}

/// Seconds between two timestamps; `None` if the driver wrote implausible ones.
#[expect(clippy::cast_precision_loss, reason = "differences of timestamps are small")]
pub(crate) fn seconds(gpu: &Gpu, stamps: &[u8]) -> Option<f64> {
    let (begin, rest) = stamps.split_first_chunk()?;
    let ticks = u64::from_le_bytes(*rest.first_chunk()?).checked_sub(u64::from_le_bytes(*begin))?;
    (ticks > 0).then(|| ticks as f64 * f64::from(gpu.queue.get_timestamp_period()) / 1e9)
}
