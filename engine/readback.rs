//! Read-back: the device copies results to a staging buffer, which is mapped asynchronously.
//!
//! Sizes of staging buffers are powers of two. A buffer returns to the device's pool when its ticket is done, so a loop that keeps
//! a few tickets in flight creates a few buffers at its start and none later.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use crate::clock::Instant;
use crate::counters::add;
use crate::device::{Device, Engine};
use crate::error::{Error, Result};
use crate::exec::Flight;
use crate::gpu::{CHUNK, Gpu, missing_since};

/// Bytes of the smallest staging buffer.
const SMALLEST: u64 = 256;
/// Bytes of the largest staging buffer that the pool keeps.
const LARGEST_KEPT: u64 = 64 << 20;

/// Pool of staging buffers for reuse.
#[derive(Debug, Default)]
pub(crate) struct Staging(Mutex<Pool>);

#[derive(Debug, Default)]
struct Pool {
    /// Free buffers by size in bytes.
    free: HashMap<u64, Vec<wgpu::Buffer>>,
    /// Buffers of dropped tickets whose mapping is pending. They are reused only after it has completed: wgpu 30 does not forget a cancelled mapping, so the
    /// buffer's next one would count as ready when the old one is, with the old content.
    abandoned: Vec<(wgpu::Buffer, Arc<Outcome>)>,
}

impl Staging {
    /// Returns a staging buffer of at least `bytes` bytes, a free one if possible.
    pub(crate) fn take(&self, device: &Device, gpu: &Gpu, bytes: u64) -> Result<wgpu::Buffer> {
        let limit = gpu.limits.max_buffer_size;
        if bytes > limit {
            return Err(Error::TooLarge { buffer: "read-back".to_owned(), bytes, limit });
        }
        let size = bytes.max(SMALLEST).next_power_of_two().min(limit & !15).max(bytes);
        self.reclaim(gpu);
        if let Some(buffer) = self.lock().free.get_mut(&size).and_then(Vec::pop) {
            return Ok(buffer);
        }
        let descriptor = wgpu::BufferDescriptor {
            label: Some("read-back"),
            size,
            usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        };
        let buffer = gpu.guard(|| "a read-back buffer".to_owned(), || gpu.device.create_buffer(&descriptor))?;
        add(&device.tally().buffers, 1);
        Ok(buffer)
    }

    /// Unmaps a buffer and returns it to the pool.
    fn give(&self, gpu: &Gpu, buffer: wgpu::Buffer) {
        let unmapped = gpu.guard(|| "unmapping".to_owned(), || buffer.unmap());
        if unmapped.is_ok() && buffer.size() <= LARGEST_KEPT {
            self.lock().free.entry(buffer.size()).or_default().push(buffer);
        }
    }

    /// Keeps a buffer until its mapping has completed.
    fn abandon(&self, buffer: wgpu::Buffer, state: Arc<Outcome>) {
        self.lock().abandoned.push((buffer, state));
    }

    /// Returns abandoned buffers whose mapping has completed to the pool.
    fn reclaim(&self, gpu: &Gpu) {
        let done: Vec<_> = {
            let mut pool = self.lock();
            pool.abandoned.extract_if(.., |(_, state)| state.get() != PENDING).collect()
        };
        for (buffer, state) in done {
            if state.get() == MAPPED {
                self.give(gpu, buffer);
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Pool> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const PENDING: u8 = 0;
const MAPPED: u8 = 1;
const FAILED: u8 = 2;

/// Outcome of a mapping, and the time when it was known.
#[derive(Debug, Default)]
struct Outcome {
    state: AtomicU8,
    at: OnceLock<Instant>,
}

impl Outcome {
    fn get(&self) -> u8 {
        self.state.load(Ordering::Acquire)
    }

    fn set(&self, state: u8) {
        let _ = self.at.set(Instant::now());
        self.state.store(state, Ordering::Release);
    }
}

/// A ticket for the results of an execution. Tickets may be waited for in any order. Dropping one releases its memory.
#[must_use = "results are read with `wait`"]
pub struct ReadBack(Ticket);

enum Ticket {
    /// On the CPU: the results, and the time when they were ready.
    Ready(Vec<Vec<u8>>, Instant),
    /// The mapping, and the submission that tells the device's pace when it has finished.
    Mapping(Mapping, Option<Flight>),
}

/// A staging buffer that is being mapped.
pub(crate) struct Mapping {
    device: Device,
    staging: Option<wgpu::Buffer>,
    /// Bytes of each result: multiples of 4, as mapping requires.
    sizes: Vec<u64>,
    state: Arc<Outcome>,
    submission: wgpu::SubmissionIndex,
}

impl ReadBack {
    /// Returns a ticket whose results are ready.
    pub(crate) fn ready_now(device: &Device, results: Vec<Vec<u8>>) -> Self {
        add(&device.tally().read_backs, 1);
        Self(Ticket::Ready(results, Instant::now()))
    }

    /// Starts mapping a staging buffer that `submission` fills with results of these sizes, one after the other.
    pub(crate) fn start(
        device: &Device,
        gpu: &Gpu,
        staging: wgpu::Buffer,
        sizes: Vec<u64>,
        submission: wgpu::SubmissionIndex,
    ) -> Result<Self> {
        add(&device.tally().read_backs, 1);
        Mapping::start(device, gpu, staging, sizes, submission).map(|mapping| Self(Ticket::Mapping(mapping, None)))
    }

    /// The ticket of results whose last submission is `flight`.
    pub(crate) fn of(self, flight: Option<Flight>) -> Self {
        match self.0 {
            Ticket::Mapping(mapping, _) => Self(Ticket::Mapping(mapping, flight)),
            ready @ Ticket::Ready(..) => Self(ready),
        }
    }

    /// Whether [`Self::wait`] would return at once. Polls the device without blocking.
    #[must_use]
    pub fn ready(&self) -> bool {
        match &self.0 {
            Ticket::Ready(..) => true,
            Ticket::Mapping(mapping, _) => mapping.ready(),
        }
    }

    /// Time when the results were first known to be ready, which each submission and each poll checks. Blocks until they are.
    ///
    /// # Errors
    /// As [`Self::wait`].
    pub fn done_at(&self) -> Result<Instant> {
        match &self.0 {
            Ticket::Ready(_, at) => Ok(*at),
            Ticket::Mapping(mapping, _) => mapping.done_at(),
        }
    }

    /// Returns the content of each buffer that the execution was asked to read, in order. Blocks, and counts as a wait, only if the
    /// device has not finished the work yet.
    ///
    /// # Errors
    /// [`Error::Timeout`] if a submission does not end within its limit (see [`Device::set_timeout`]), [`Error::ReadBack`], or a fault of the device.
    pub fn wait(self) -> Result<Vec<Vec<u8>>> {
        let results = match self.0 {
            Ticket::Ready(results, _) => return Ok(results),
            Ticket::Mapping(mapping, flight) => {
                let results = mapping.finish()?;
                flight.map_or(Ok(()), |flight| flight.landed(mapping.gpu()?, mapping.done_at()?))?;
                add(&mapping.device.tally().bytes_read, results.iter().map(|bytes| bytes.len() as u64).sum());
                results
            }
        };
        Ok(results)
    }
}

impl fmt::Debug for ReadBack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Ticket::Ready(results, _) => write!(f, "ReadBack({} results)", results.len()),
            Ticket::Mapping(mapping, _) => write!(f, "ReadBack({:?} bytes)", mapping.sizes),
        }
    }
}

impl Mapping {
    /// Starts mapping a buffer that `submission` fills with results of these sizes.
    pub(crate) fn start(
        device: &Device,
        gpu: &Gpu,
        staging: wgpu::Buffer,
        sizes: Vec<u64>,
        submission: wgpu::SubmissionIndex,
    ) -> Result<Self> {
        let state = Arc::new(Outcome::default());
        let told = Arc::clone(&state);
        let total = sizes.iter().sum::<u64>();
        gpu.guard(
            || "mapping".to_owned(),
            || {
                staging.map_async(wgpu::MapMode::Read, 0..total, move |outcome| {
                    told.set(if outcome.is_ok() { MAPPED } else { FAILED });
                });
            },
        )?;
        Ok(Self { device: device.clone(), staging: Some(staging), sizes, state, submission })
    }

    fn gpu(&self) -> Result<&Gpu> {
        match self.device.engine() {
            Engine::Gpu(gpu) => Ok(gpu),
            Engine::Cpu(_) => Err(Error::ReadBack("the CPU reference has no mappings".to_owned())),
        }
    }

    fn state(&self) -> u8 {
        self.state.get()
    }

    /// Whether [`Self::finish`] would return at once. Polls without blocking.
    pub(crate) fn ready(&self) -> bool {
        // A failure counts as ready, because `wait` reports it without blocking.
        self.state() != PENDING || self.gpu().and_then(Gpu::poll).is_err() || self.state() != PENDING
    }

    /// Blocks until the mapping has completed.
    fn arrive(&self) -> Result<()> {
        let gpu = self.gpu()?;
        if !self.ready() {
            gpu.wait(self.device.tally(), &self.submission)?;
            // Another thread's poll may be about to run the callback.
            let since = Instant::now();
            while self.state() == PENDING {
                std::thread::sleep(Duration::from_micros(50));
                gpu.poll()?;
                missing_since(since)?;
            }
        }
        gpu.check()
    }

    /// Time when the mapping was known to have completed. Blocks until it has.
    fn done_at(&self) -> Result<Instant> {
        self.arrive()?;
        Ok(self.state.at.get().copied().unwrap_or_else(Instant::now))
    }

    /// Returns the results. Blocks until they are ready.
    pub(crate) fn finish(&self) -> Result<Vec<Vec<u8>>> {
        self.arrive()?;
        let staging = self.staging.as_ref().filter(|_| self.state() == MAPPED);
        // A mapping fails only if the device is lost. On a host app's device this may be the first sign of it.
        let staging = staging.ok_or_else(|| Error::Lost("results could not be mapped".to_owned()))?;
        let mut start = 0;
        self.sizes
            .iter()
            .map(|&size| {
                let range = start..start + size;
                start += size;
                if size == 0 {
                    return Ok(Vec::new());
                }
                let view = staging.get_mapped_range(range).map_err(|error| Error::ReadBack(error.to_string()))?;
                Ok(view.to_vec())
            })
            .collect()
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        let Some((staging, gpu)) = self.staging.take().zip(self.gpu().ok()) else { return };
        match self.state() {
            PENDING => gpu.staging.abandon(staging, Arc::clone(&self.state)),
            MAPPED => gpu.staging.give(gpu, staging),
            _ => {}
        }
    }
}

/// Reads a range of a buffer, one chunk at a time. Blocks.
pub(crate) fn read(device: &Device, gpu: &Gpu, source: &wgpu::Buffer, range: Range<u64>) -> Result<Vec<u8>> {
    gpu.check()?;
    let mut bytes = Vec::new();
    let mut start = range.start;
    while start < range.end {
        let length = (range.end - start).min(CHUNK as u64);
        // Copies are in whole words. Buffer sizes are multiples of 16, so the rounded range is inside the buffer.
        let copied = length.next_multiple_of(4);
        let chunk = fetch(device, gpu, copied, |encoder, staging| {
            encoder.copy_buffer_to_buffer(source, start, staging, 0, copied);
        })?;
        bytes.extend_from_slice(&chunk);
        start += length;
    }
    // Only the last chunk can have been rounded up.
    bytes.truncate(usize::try_from(range.end - range.start).unwrap_or(bytes.len()));
    Ok(bytes)
}

/// Returns the `bytes` bytes that `copy` copies into a staging buffer. Blocks.
pub(crate) fn fetch(
    device: &Device,
    gpu: &Gpu,
    bytes: u64,
    copy: impl FnOnce(&mut wgpu::CommandEncoder, &wgpu::Buffer),
) -> Result<Vec<u8>> {
    let staging = gpu.staging.take(device, gpu, bytes)?;
    let submission = gpu.submit(device.tally(), || {
        let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("read") });
        copy(&mut encoder, &staging);
        Some(encoder.finish())
    })?;
    Ok(Mapping::start(device, gpu, staging, vec![bytes], submission)?.finish()?.concat())
}
