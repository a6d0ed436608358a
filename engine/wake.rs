//! Wakes a task when the device is done: the asynchronous form of waiting.
//!
//! wgpu calls callbacks on the thread that polls the device. On native platforms somebody has to poll, so the first waker starts a thread for its device. It
//! sleeps inside the driver until the awaited work is done, and otherwise on a channel. It ends with the device. No async runtime is involved.

use std::sync::atomic::{AtomicBool, Ordering::Acquire};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;

use crate::device::{Device, Engine};
use crate::error::{Error, Result};

/// The thread that waits, once it is needed.
#[derive(Debug, Default)]
pub(crate) struct Waiter(Mutex<Option<Sender<Job>>>);

/// A task to wake.
struct Job {
    device: Device,
    /// True once the work is done and the device was polled.
    done: Arc<AtomicBool>,
    waker: Waker,
}

impl Waiter {
    fn send(&self, job: Job) -> Result<()> {
        let mut sender = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if sender.is_none() {
            let (first, jobs) = channel();
            let thread = std::thread::Builder::new().name("ruminate wait".to_owned());
            thread
                .spawn(move || wait(&jobs))
                .map_err(|error| Error::ReadBack(format!("cannot start a thread to wait on: {error}")))?;
            *sender = Some(first);
        }
        // The thread ends after the sender does.
        let _ = sender.as_ref().map(|sender| sender.send(job));
        Ok(())
    }
}

/// Waits for the jobs in order, which is the order of their submissions.
fn wait(jobs: &Receiver<Job>) {
    while let Ok(Job { device, done, waker }) = jobs.recv() {
        if let Engine::Gpu(gpu) = device.engine() {
            // The woken task finds a fault itself.
            let _ = gpu.wait_for(|| done.load(Acquire));
        }
        drop(device);
        waker.wake();
    }
}

impl Device {
    /// Wakes `waker` once everything that was submitted so far is done, or the device has failed.
    ///
    /// Then it is worth repeating a call that had nothing to return, such as a bounded step of a generation. Returns at once; on the CPU, `waker` is woken
    /// before that.
    ///
    /// A thread of the engine, started at the first call and named `ruminate wait`, waits for the device and calls the waker; hosts that poll the device
    /// themselves may keep doing so.
    ///
    /// # Errors
    /// A fault of the device; [`Error::ReadBack`] if the system cannot start a thread.
    pub fn wake_when_done(&self, waker: &Waker) -> Result<()> {
        match self.engine() {
            Engine::Cpu(_) => waker.wake_by_ref(),
            Engine::Gpu(gpu) => {
                gpu.check()?;
                gpu.waiter.send(Job { device: self.clone(), done: gpu.done(), waker: waker.clone() })?;
            }
        }
        Ok(())
    }
}
