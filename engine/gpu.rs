//! The wgpu side of a device: error scopes, faults, submissions and waits.
//!
//! Nothing here panics when the device is lost. wgpu reports a loss through a callback, and other faults through error scopes
//! or, outside of any scope, through a handler. The first fault is stored, and every call of the engine returns it. The engine waits
//! in slices, so that a device that stops making progress causes [`Error::Timeout`] and not a hang.
//!
//! A device that hangs is never dropped, because wgpu would wait for it forever.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Release;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use crate::adapter::Kind;
use crate::clock::Instant;
use crate::counters::{Tally, add};
use crate::error::{Error, Result};
use crate::pace::Pace;
use crate::pipeline::Pipelines;
use crate::pipeline_cache::Kept;
use crate::probe::Probe;
use crate::readback::Staging;
use crate::wake::Waiter;
use crate::watchdog::Watchdog;

/// Bytes uploaded or read back at a time, which limits the staging memory of large transfers.
pub(crate) const CHUNK: usize = 32 << 20;
/// Uploads that may be in flight before the host waits for the oldest.
const UPLOADS_IN_FLIGHT: usize = 2;
/// Start of the message of wgpu 30's panic when a wait times out while another thread's poll finds the queue empty. The panic is a mistake, and harmless.
const RACED: &str = "If the queue is empty";

/// Lowest assumed speed of a device, by which a submission's length is limited. The values are guesses that only need to be right within a
/// factor of ten: operating systems allow a submission about 2 s, and submitting costs some 50 µs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rates {
    bytes_per_second: f64,
    flops_per_second: f64,
    launch_seconds: f64,
    /// Seconds of work per submission.
    pub(crate) submission_seconds: f64,
}

impl Rates {
    fn of(kind: Kind) -> Self {
        let (bytes_per_second, flops_per_second, launch_seconds, submission_seconds) = match kind {
            Kind::Cpu => (5e9, 5e9, 50e-6, 0.1),
            // Submissions are shorter on GPUs, which are idle while the host encodes the first one.
            Kind::Integrated | Kind::Virtual | Kind::Other => (50e9, 500e9, 10e-6, 0.04),
            Kind::Discrete => (300e9, 5e12, 5e-6, 0.02),
        };
        Self { bytes_per_second, flops_per_second, launch_seconds, submission_seconds }
    }

    /// Estimated seconds of a launch.
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    pub(crate) fn seconds(&self, cost: ruminate_shaders::Cost) -> f64 {
        let (bytes, flops) = (cost.bytes as f64, cost.flops as f64);
        self.launch_seconds + (bytes / self.bytes_per_second).max(flops / self.flops_per_second)
    }
}

/// Uploads held in wgpu's staging memory.
#[derive(Debug, Default)]
struct Uploads {
    staged: usize,
    in_flight: VecDeque<wgpu::SubmissionIndex>,
}

/// A wgpu device with the engine's state for it.
#[derive(Debug)]
pub(crate) struct Gpu {
    pub(crate) device: wgpu::Device,
    pub(crate) queue: wgpu::Queue,
    pub(crate) limits: wgpu::Limits,
    pub(crate) timestamps: bool,
    pub(crate) rates: Rates,
    pub(crate) pace: Pace,
    pub(crate) pipelines: Pipelines,
    pub(crate) staging: Staging,
    /// Pipeline cache on disk, if the options ask for one.
    pub(crate) kept: OnceLock<Kept>,
    /// Wakes tasks that wait for the device.
    pub(crate) waiter: Waiter,
    fault: Arc<OnceLock<Error>>,
    /// Detects the loss of a host app's device, which wgpu reports only to the host's callback.
    probe: OnceLock<Probe>,
    pub(crate) watchdog: Arc<Watchdog>,
    uploads: Mutex<Uploads>,
}

impl Gpu {
    pub(crate) fn new(device: wgpu::Device, queue: wgpu::Queue, kind: Kind) -> Self {
        Self {
            limits: device.limits(),
            timestamps: device.features().contains(wgpu::Features::TIMESTAMP_QUERY),
            rates: Rates::of(kind),
            pace: Pace::default(),
            pipelines: Pipelines::default(),
            staging: Staging::default(),
            kept: OnceLock::new(),
            waiter: Waiter::default(),
            fault: Arc::default(),
            probe: OnceLock::new(),
            watchdog: Arc::default(),
            uploads: Mutex::default(),
            device,
            queue,
        }
    }

    /// Installs the handlers for loss and for errors outside of any scope. Not called for a host app's device, which has the host's
    /// handlers.
    pub(crate) fn listen(&self) {
        let fault = Arc::clone(&self.fault);
        self.device.set_device_lost_callback(move |reason, message| {
            let message = if message.is_empty() { format!("{reason:?}") } else { message };
            // An earlier fault is kept, because it is the likely cause.
            let _ = fault.set(Error::Lost(message));
        });
        let fault = Arc::clone(&self.fault);
        self.device.on_uncaptured_error(Arc::new(move |error| {
            let _ = fault.set(classify(error, "a call"));
        }));
    }

    /// Makes every check look for a loss: for a host app's device, on which [`Self::listen`] installs no handlers.
    pub(crate) fn watch(&self) {
        let _ = self.probe.set(Probe::new(&self.device));
    }

    /// Records that the device is lost.
    pub(crate) fn lose(&self, message: &str) {
        let _ = self.fault.set(Error::Lost(message.to_owned()));
    }

    /// Records that the driver hangs, and leaks the device.
    fn hang(&self, limit: Duration) {
        if self.fault.set(Error::Timeout { limit }).is_ok() {
            // Dropping the last handle of a queue waits until the queue is empty.
            std::mem::forget((self.device.clone(), self.queue.clone()));
        }
    }

    /// Returns the first fault as an error, if there was one.
    pub(crate) fn check(&self) -> Result<()> {
        if self.fault.get().is_none() && self.probe.get().is_some_and(Probe::lost) {
            self.lose("the app's device no longer works");
        }
        self.fault.get().map_or(Ok(()), |fault| Err(fault.clone()))
    }

    /// Checks whether a call of the driver has blocked its thread for too long, without calling the driver.
    pub(crate) fn look(&self) -> Result<()> {
        if let Some(limit) = self.watchdog.blocked(Instant::now()) {
            self.hang(limit);
        }
        self.fault.get().map_or(Ok(()), |fault| Err(fault.clone()))
    }

    /// Runs calls of wgpu inside error scopes. Scopes belong to a thread, so `call` must not make its calls from another one.
    pub(crate) fn guard<T>(&self, what: impl Fn() -> String, call: impl FnOnce() -> T) -> Result<T> {
        self.check()?;
        let memory = self.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let internal = self.device.push_error_scope(wgpu::ErrorFilter::Internal);
        let validation = self.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let made = call();
        let validation = pollster::block_on(validation.pop());
        let internal = pollster::block_on(internal.pop());
        let memory = pollster::block_on(memory.pop());
        self.check()?;
        memory.or(internal).or(validation).map_or(Ok(made), |error| Err(classify(error, &what())))
    }

    /// Submits commands, together with the buffer writes since the last submission.
    pub(crate) fn submit(
        &self,
        tally: &Tally,
        encode: impl FnOnce() -> Option<wgpu::CommandBuffer>,
    ) -> Result<wgpu::SubmissionIndex> {
        let index = self.guard(
            || "a submission".to_owned(),
            || {
                let commands = encode();
                self.watchdog.call(|| self.queue.submit(commands))
            },
        )?;
        self.watchdog.submitted(Instant::now());
        let watchdog = Arc::clone(&self.watchdog);
        self.queue.on_submitted_work_done(move || watchdog.finished());
        add(&tally.submissions, 1);
        Ok(index)
    }

    /// Looks for finished work without blocking.
    pub(crate) fn poll(&self) -> Result<()> {
        self.poll_once(wgpu::PollType::Poll).map(drop)
    }

    /// Returns a flag that a poll sets to true once all work submitted so far has finished.
    ///
    /// A wait with a timeout of zero would need no callback, but wgpu 30 fails if a wait times out while another thread finds the queue
    /// empty.
    pub(crate) fn done(&self) -> Arc<AtomicBool> {
        let done = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&done);
        self.queue.on_submitted_work_done(move || told.store(true, Release));
        done
    }

    /// Blocks until a submission has finished.
    pub(crate) fn wait(&self, tally: &Tally, index: &wgpu::SubmissionIndex) -> Result<()> {
        add(&tally.waits, 1);
        while !self.poll_once(self.slice(Some(index)))? {}
        Ok(())
    }

    /// Blocks until all submitted work has finished and `done` returns true.
    pub(crate) fn wait_for(&self, done: impl Fn() -> bool) -> Result<()> {
        let mut since = None;
        while !done() {
            if self.poll_once(self.slice(None))? {
                // Another thread that polls may be about to run the callback.
                std::thread::yield_now();
                missing_since(*since.get_or_insert_with(Instant::now))?;
            }
        }
        Ok(())
    }

    /// A wait for one submission, or for all if `index` is `None`, short enough to check for faults and the watchdog in between. [`Self::poll_once`] handles
    /// the failures of such a wait.
    fn slice(&self, index: Option<&wgpu::SubmissionIndex>) -> wgpu::PollType {
        wgpu::PollType::Wait { submission_index: index.cloned(), timeout: Some(self.watchdog.slice()) }
    }

    /// Polls wgpu's event loop once. Returns whether the awaited submission has finished.
    fn poll_once(&self, how: wgpu::PollType) -> Result<bool> {
        self.check()?;
        // wgpu 30 panics in a poll if the driver reports a loss during the wait, or if another thread's poll comes first (see `RACED`).
        let outcome = catch_unwind(AssertUnwindSafe(|| self.watchdog.call(|| self.device.poll(how))));
        if let Some(limit) = self.watchdog.exceeded(Instant::now()) {
            self.hang(limit);
        }
        self.check()?;
        match outcome {
            Ok(Ok(_)) => Ok(true),
            Ok(Err(wgpu::PollError::Timeout)) => Ok(false),
            Ok(Err(error)) => Err(Error::ReadBack(error.to_string())),
            Err(panic) if panic.downcast_ref::<String>().is_some_and(|text| text.starts_with(RACED)) => Ok(false),
            Err(_) => {
                self.lose("the driver failed during a wait");
                self.check().map(|()| false)
            }
        }
    }

    /// Writes to a buffer through wgpu's staging memory, using at most a few [`CHUNK`]s at a time.
    pub(crate) fn write(&self, tally: &Tally, buffer: &wgpu::Buffer, offset: u64, data: &[u8]) -> Result<()> {
        for (start, chunk) in (offset..).step_by(CHUNK).zip(data.chunks(CHUNK)) {
            let (whole, tail) = chunk.split_at(chunk.len() & !3);
            self.staged(tally, chunk.len(), || {
                if !whole.is_empty() {
                    self.queue.write_buffer(buffer, start, whole);
                }
                if !tail.is_empty() {
                    let mut word = [0; 4];
                    word[..tail.len()].copy_from_slice(tail);
                    self.queue.write_buffer(buffer, start + whole.len() as u64, &word);
                }
            })?;
        }
        Ok(())
    }

    /// Makes a write that takes `bytes` of wgpu's staging memory. Waits for an older write if too much is in flight.
    pub(crate) fn staged(&self, tally: &Tally, bytes: usize, write: impl FnOnce()) -> Result<()> {
        let mut uploads = self.uploads.lock().unwrap_or_else(PoisonError::into_inner);
        self.guard(|| "an upload".to_owned(), write)?;
        uploads.staged += bytes;
        if uploads.staged >= CHUNK {
            uploads.staged = 0;
            uploads.in_flight.push_back(self.submit(tally, || None)?);
            if uploads.in_flight.len() > UPLOADS_IN_FLIGHT
                && let Some(oldest) = uploads.in_flight.pop_front()
            {
                self.wait(tally, &oldest)?;
            }
        }
        Ok(())
    }
}

/// Maximum time between the end of work and the callback that reports it, which another thread may run.
const STRAY: Duration = Duration::from_secs(60);

/// Fails if an expected callback is still missing one minute after `since`.
pub(crate) fn missing_since(since: Instant) -> Result<()> {
    if since.elapsed() < STRAY {
        Ok(())
    } else {
        Err(Error::ReadBack("wgpu did not report the end of its work within a minute".to_owned()))
    }
}

fn classify(error: wgpu::Error, what: &str) -> Error {
    let what = what.to_owned();
    match error {
        wgpu::Error::OutOfMemory { .. } => Error::OutOfMemory { what },
        wgpu::Error::Validation { description, .. } | wgpu::Error::Internal { description, .. } => {
            Error::Validation { what, message: description }
        }
    }
}
