//! Buffers: blocks of device memory, counted while they are alive.

use std::fmt;
use std::sync::{Arc, RwLock};

use ruminate_shaders::Place;

use crate::counters::add;
use crate::device::Device;
use crate::texels::Texels;
use std::sync::atomic::Ordering::Relaxed;

/// Memory of a CPU device.
pub(crate) type Words = RwLock<Box<[u32]>>;

/// Location of the bytes.
#[derive(Debug)]
pub(crate) enum Memory {
    Gpu(wgpu::Buffer),
    Texels(Texels),
    Cpu(Words),
}

/// A block of device memory: a cheap handle, freed when the last clone is dropped.
#[derive(Clone)]
pub struct Buffer(Arc<Inner>);

struct Inner {
    label: String,
    size: u64,
    memory: Memory,
    owner: Device,
}

impl Buffer {
    /// Wraps memory of `owner` and counts it.
    pub(crate) fn new(owner: &Device, label: &str, size: u64, memory: Memory) -> Self {
        let tally = owner.tally();
        add(&tally.buffers, 1);
        add(&tally.live_buffers, 1);
        add(&tally.live_bytes, size);
        Self(Arc::new(Inner { label: label.to_owned(), size, memory, owner: owner.clone() }))
    }

    /// The label, as it appears in errors and traces.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.0.label
    }

    /// Size in bytes, a multiple of 16.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.0.size
    }

    /// The wgpu buffer, for host apps that share it; `None` on the CPU and for [`Device::texels`]. Its usages are storage, copy source and copy
    /// destination.
    #[must_use]
    pub fn wgpu(&self) -> Option<&wgpu::Buffer> {
        match &self.0.memory {
            Memory::Gpu(buffer) => Some(buffer),
            Memory::Texels(_) | Memory::Cpu(_) => None,
        }
    }

    pub(crate) fn memory(&self) -> &Memory {
        &self.0.memory
    }

    /// Kind of memory.
    pub(crate) fn place(&self) -> Place {
        match &self.0.memory {
            Memory::Gpu(buffer) if buffer.usage().contains(wgpu::BufferUsages::UNIFORM) => Place::Uniform,
            Memory::Texels(_) => Place::Texture,
            Memory::Gpu(_) | Memory::Cpu(_) => Place::Buffer,
        }
    }

    /// The texture, if the buffer is one.
    pub(crate) fn texels(&self) -> Option<&Texels> {
        match &self.0.memory {
            Memory::Texels(texels) => Some(texels),
            Memory::Gpu(_) | Memory::Cpu(_) => None,
        }
    }

    /// The words on the CPU; `None` on a GPU.
    pub(crate) fn words(&self) -> Option<&Words> {
        match &self.0.memory {
            Memory::Gpu(_) | Memory::Texels(_) => None,
            Memory::Cpu(words) => Some(words),
        }
    }

    pub(crate) fn owner(&self) -> &Device {
        &self.0.owner
    }

    /// Whether two handles refer to the same memory.
    #[must_use]
    pub fn same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} bytes)", self.0.label, self.0.size)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let tally = self.owner.tally();
        tally.live_buffers.fetch_sub(1, Relaxed);
        tally.live_bytes.fetch_sub(self.size, Relaxed);
    }
}
