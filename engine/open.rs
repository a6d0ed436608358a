//! Opening a device: a GPU, a host app's wgpu device, or the CPU reference.

use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex};

use ruminate_shaders::{Caps, Cooperative};

use crate::adapter::{self, OpenOptions};
use crate::counters::Tally;
use crate::cpu::Cpu;
use crate::device::{Device, Engine, Shared};
use crate::error::{Error, Result};
use crate::gates::LoopWay;
use crate::gpu::Gpu;
use crate::identity;
use crate::limits;
use crate::memory;
use crate::pipeline_cache::Kept;
use crate::pretend::Pretend;
use crate::tune::Tuning;

impl Device {
    /// Opens a GPU.
    ///
    /// # Errors
    /// [`Error::NoAdapter`] if no adapter matches the selection, [`Error::Ambiguous`] if several devices do, [`Error::Open`] if the driver cannot open the
    /// device, [`Error::Tuning`] if the tuning file cannot be used.
    pub fn open(options: &OpenOptions) -> Result<Self> {
        Self::open_pretending(options, &Pretend::default())
    }

    /// Opens a GPU that pretends to be another one, for tests on machines that lack that one.
    ///
    /// # Errors
    /// As [`Self::open`].
    #[doc(hidden)]
    pub fn open_pretending(options: &OpenOptions, pretend: &Pretend) -> Result<Self> {
        let (adapter, chosen) = adapter::select(options)?;
        let tuning = options.tuning.of(&chosen)?;
        let (device, queue, cooperative) = adapter::request(&adapter, options, pretend)
            .map_err(|error| Error::Open { adapter: chosen.name.clone(), message: error.to_string() })?;
        // If wgpu validates each indirect launch, direct launches are cheaper.
        let way = if adapter::checks_indirect() { LoopWay::Direct } else { LoopWay::Indirect };
        let opened = Self::wrap(device, queue, (chosen.index, pretend), tuning, way, cooperative);
        if let Engine::Gpu(gpu) = &opened.0.engine {
            gpu.listen();
            gpu.watchdog.set_limit(options.timeout);
            if let Some(kept) = Kept::open(&gpu.device, &options.pipeline_cache) {
                let _ = gpu.kept.set(kept);
            }
        }
        Ok(opened)
    }

    /// Returns the CPU reference, which runs the kernels' CPU references. It is always available, exact and slow.
    #[must_use]
    pub fn cpu() -> Self {
        Self(Arc::new(Shared {
            engine: Engine::Cpu(Cpu::default()),
            caps: Caps::WEBGPU,
            name: "CPU reference".to_owned(),
            summary: None,
            loops: LoopWay::Direct,
            tuning: Tuning::default(),
            tally: Tally::default(),
            warming: AtomicU32::new(0),
            picked: Mutex::default(),
        }))
    }

    /// Uses a host app's device and queue, created with [`Self::required_features`] and [`Self::required_limits`], or with
    /// fewer and lower ones. The host's handlers for loss and errors stay in place. The engine notices a loss at its next call; a host that
    /// knows the reason can pass it on with [`Self::report_lost`].
    ///
    /// # Errors
    /// [`Error::Limits`] if limits of the device are below [`REQUIRED_LIMITS`](crate::REQUIRED_LIMITS). No feature is required.
    pub fn from_wgpu(device: wgpu::Device, queue: wgpu::Queue) -> Result<Self> {
        Self::from_wgpu_tuned(device, queue, Tuning::default())
    }

    /// Like [`Self::from_wgpu`], but with tuned kernel choices, such as those that [`Tuning::read`] returns.
    ///
    /// # Errors
    /// As [`Self::from_wgpu`].
    pub fn from_wgpu_tuned(device: wgpu::Device, queue: wgpu::Queue, tuning: Tuning) -> Result<Self> {
        let low = limits::low(&device.limits());
        if !low.is_empty() {
            return Err(Error::Limits { adapter: device.adapter_info().name, low });
        }
        // The host's wgpu instance decides whether indirect launches are validated, and by default they are.
        let wrapped = Self::wrap(device, queue, (0, &Pretend::default()), tuning, LoopWay::Direct, <_>::default());
        if let Engine::Gpu(gpu) = &wrapped.0.engine {
            gpu.watch();
        }
        Ok(wrapped)
    }

    /// Features of the adapter that the engine uses.
    #[must_use]
    pub fn required_features(adapter: &wgpu::Adapter) -> wgpu::Features {
        adapter::features(adapter)
    }

    /// Limits with which the engine works best: all limits of the adapter. [`REQUIRED_LIMITS`](crate::REQUIRED_LIMITS) holds the lowest limits that it works
    /// with.
    #[must_use]
    pub fn required_limits(adapter: &wgpu::Adapter) -> wgpu::Limits {
        adapter.limits()
    }

    fn wrap(
        device: wgpu::Device,
        queue: wgpu::Queue,
        (index, pretend): (usize, &Pretend),
        tuning: Tuning,
        usual: LoopWay,
        cooperative: [bool; Cooperative::ALL.len()],
    ) -> Self {
        let mut info = device.adapter_info();
        (pretend.info)(&mut info);
        let mut summary = adapter::summary(
            index,
            info,
            device.features(),
            &device.limits(),
            memory::device_heaps(&device),
            tuning.textures,
            cooperative,
        );
        summary.uuid = identity::device_uuid(&device);
        Self(Arc::new(Shared {
            caps: summary.caps,
            name: summary.name.clone(),
            engine: Engine::Gpu(Box::new(Gpu::new(device, queue, summary.kind))),
            summary: Some(summary),
            loops: tuning.loops().unwrap_or(usual),
            tuning,
            tally: Tally::default(),
            warming: AtomicU32::new(0),
            picked: Mutex::default(),
        }))
    }
}
