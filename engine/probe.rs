//! Detects the loss of a device whose callbacks belong to a host app.
//!
//! wgpu reports a loss through one callback per device. On a host's device, that callback is the host's own, and error scopes stay silent about a lost device:
//! calls on it do nothing. A request to map a buffer is the exception: its callback reports the loss at once, inside the call. So the probe keeps a small
//! buffer, requests its mapping and cancels the request; on a device that works, this touches no memory and never waits.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes of the buffer: the minimum that can be mapped.
const BYTES: u64 = 8;

/// A buffer whose mapping fails once its device is lost; `None` after the loss was seen.
#[derive(Debug)]
pub(crate) struct Probe(Mutex<Option<wgpu::Buffer>>);

impl Probe {
    pub(crate) fn new(device: &wgpu::Device) -> Self {
        Self(Mutex::new(Some(device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("probe"),
            size: BYTES,
            usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        }))))
    }

    /// Whether the device is lost. Never blocks on the device.
    pub(crate) fn lost(&self) -> bool {
        // One request at a time: wgpu rejects a second one while the first is pending.
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(buffer) = &*slot else { return true };
        let refused = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&refused);
        buffer.map_async(wgpu::MapMode::Read, .., move |outcome| told.store(outcome.is_err(), Ordering::Release));
        if refused.load(Ordering::Acquire) {
            // The request has failed, so nothing is pending, and canceling nothing would be an error.
            *slot = None;
            return true;
        }
        // Unmapping calls the callback too, so its answer is read before.
        buffer.unmap();
        false
    }
}
