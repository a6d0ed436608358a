//! The wgpu side of a device: error scopes, faults, submissions and waits.
//!
//! Nothing here panics when the device goes away. wgpu reports a loss through a callback, other faults through error scopes
//! or, outside of any scope, through a handler; the first fault is stored, and every call of the engine looks at it. Waiting
//! is done in slices, so that a device that stopped making progress ends as [`Error::Timeout`] and not as a hang.
//!
//! A device that hangs is never dropped: wgpu would wait for it without end.

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

/// Bytes uploaded or read back at a time: bounds the staging memory of large transfers.
pub(crate) const CHUNK: usize = 32 << 20;
/// Uploads that may be in flight before the host waits for the oldest.
const UPLOADS_IN_FLIGHT: usize = 2;
/// What wgpu 30 says when a wait times out while another thread's poll finds the queue empty. It is wrong, and harmless.
const RACED: &str = "If the queue is empty";

/// What a device is assumed to do at least, to decide where a submission ends. Guesses that only need to be right within a
/// factor of ten: a watchdog allows about 2 s, and a submission costs some 50 µs.
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
            // Shorter on GPUs, which would idle while the host encodes the first submission.
            Kind::Integrated | Kind::Virtual | Kind::Other => (50e9, 500e9, 10e-6, 0.04),
            Kind::Discrete => (300e9, 5e12, 5e-6, 0.02),
        };
        Self { bytes_per_second, flops_per_second, launch_seconds, submission_seconds }
    }

    /// Seconds that a launch is assumed to take.
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    pub(crate) fn seconds(&self, cost: ruminate_shaders::Cost) -> f64 {
        let (bytes, flops) = (cost.bytes as f64, cost.flops as f64);
        self.launch_seconds + (bytes / self.bytes_per_second).max(flops / self.flops_per_second)
    }
}

/// Uploads that wgpu holds in staging memory.
#[derive(Debug, Default)]
struct Uploads {
    staged: usize,
    in_flight: VecDeque<wgpu::SubmissionIndex>,
}

/// A wgpu device and what the engine keeps beside it.
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
    /// Pipelines kept from run to run, if the options ask for it.
    pub(crate) kept: OnceLock<Kept>,
    /// Wakes tasks that wait for the device.
    pub(crate) waiter: Waiter,
    fault: Arc<OnceLock<Error>>,
    /// On a host app's device, whose loss the host's own callback hears of.
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

    /// Installs the handlers for loss and for errors outside of any scope. Not done for a host app's device, whose handlers
    /// are its own.
    pub(crate) fn listen(&self) {
        let fault = Arc::clone(&self.fault);
        self.device.set_device_lost_callback(move |reason, message| {
            let message = if message.is_empty() { format!("{reason:?}") } else { message };
            // A fault that was stored before stays: it is the likely cause.
            let _ = fault.set(Error::Lost(message));
        });
        let fault = Arc::clone(&self.fault);
        self.device.on_uncaptured_error(Arc::new(move |error| {
            let _ = fault.set(classify(error, "a call"));
        }));
    }

    /// Looks for a loss at every check: for a host app's device, whose handlers are its own.
    pub(crate) fn watch(&self) {
        let _ = self.probe.set(Probe::new(&self.device));
    }

    /// Records that the device is lost.
    pub(crate) fn lose(&self, message: &str) {
        let _ = self.fault.set(Error::Lost(message.to_owned()));
    }

    /// Records that the driver hangs, and keeps the device for ever.
    fn hang(&self, limit: Duration) {
        if self.fault.set(Error::Timeout { limit }).is_ok() {
            // The last handle of a queue waits until the queue is empty.
            std::mem::forget((self.device.clone(), self.queue.clone()));
        }
    }

    /// The first fault, if there was one.
    pub(crate) fn check(&self) -> Result<()> {
        if self.fault.get().is_none() && self.probe.get().is_some_and(Probe::lost) {
            self.lose("the app's device no longer works");
        }
        self.fault.get().map_or(Ok(()), |fault| Err(fault.clone()))
    }

    /// Looks for a call of the driver that blocks its thread for too long. Calls no driver.
    pub(crate) fn look(&self) -> Result<()> {
        if let Some(limit) = self.watchdog.blocked(Instant::now()) {
            self.hang(limit);
        }
        self.fault.get().map_or(Ok(()), |fault| Err(fault.clone()))
    }

    /// Runs calls of wgpu inside error scopes. Scopes belong to the thread, so `call` must not move to another.
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

    /// Submits commands, and with them what was written since the last submission.
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

    /// Becomes true when everything that was submitted so far is finished, and somebody polls.
    ///
    /// A wait of no time would tell without a callback, but wgpu 30 fails when a wait times out while another thread finds the queue
    /// empty.
    pub(crate) fn done(&self) -> Arc<AtomicBool> {
        let done = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&done);
        self.queue.on_submitted_work_done(move || told.store(true, Release));
        done
    }

    /// Blocks until a submission is finished.
    pub(crate) fn wait(&self, tally: &Tally, index: &wgpu::SubmissionIndex) -> Result<()> {
        add(&tally.waits, 1);
        while !self.poll_once(self.slice(Some(index)))? {}
        Ok(())
    }

    /// Blocks until what was submitted is finished and `done` says so.
    pub(crate) fn wait_for(&self, done: impl Fn() -> bool) -> Result<()> {
        let mut since = None;
        while !done() {
            if self.poll_once(self.slice(None))? {
                // The callback may be under way on another thread that polls.
                std::thread::yield_now();
                missing_since(*since.get_or_insert_with(Instant::now))?;
            }
        }
        Ok(())
    }

    /// A wait for a submission, or for all of them, that ends in time for a look at faults and the watchdog. See [`Self::poll_once`] for what may happen then.
    fn slice(&self, index: Option<&wgpu::SubmissionIndex>) -> wgpu::PollType {
        wgpu::PollType::Wait { submission_index: index.cloned(), timeout: Some(self.watchdog.slice()) }
    }

    /// One poll of wgpu's event loop; whether the awaited submission is finished.
    fn poll_once(&self, how: wgpu::PollType) -> Result<bool> {
        self.check()?;
        // wgpu 30 panics here when the driver reports a loss during the wait, and when it loses a race with another thread.
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

    /// Writes through wgpu's staging memory, at most a few [`CHUNK`]s of it at a time.
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

    /// Makes a write that takes `bytes` of wgpu's staging memory, and waits for older ones if that is much.
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

/// How long a callback may be under way on another thread after its work has ended.
const STRAY: Duration = Duration::from_secs(60);

/// Fails if a callback that should have come at once is still missing after a minute.
pub(crate) fn missing_since(since: Instant) -> Result<()> {
    if since.elapsed() < STRAY {
        Ok(())
    } else {
        Err(Error::ReadBack("wgpu does not say that its work has ended".to_owned()))
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
