//! A device: a GPU opened through wgpu, one that a host app hands over, or the CPU twins of the kernels.

use std::fmt;
use std::ops::Range;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use ruminate_shaders::{Binding, Caps, Case, Cooperative, Launch, Place, Variants};

use crate::adapter::{self, AdapterSummary, OpenOptions};
use crate::buffer::{Buffer, Memory};
use crate::counters::{Counters, Tally, add};
use crate::cpu::{self, Cpu};
use crate::error::{Error, Result};
use crate::exec::{self, Execution};
use crate::gates::LoopWay;
use crate::gpu::Gpu;
use crate::graph::{self, Graph};
use crate::identity;
use crate::limits;
use crate::memory;
use crate::pipeline_cache::Kept;
use crate::plan::Plan;
use crate::pretend::Pretend;
use crate::profile::{self, Profile};
use crate::readback::{self, ReadBack};
use crate::texels::{TEXEL, Texels};
use crate::tune::Tuning;
use crate::verify::{self, Verdict};

/// A device: a cheap handle that any thread may use.
#[derive(Clone)]
pub struct Device(Arc<Shared>);

struct Shared {
    engine: Engine,
    caps: Caps,
    name: String,
    summary: Option<AdapterSummary>,
    tuning: Tuning,
    loops: LoopWay,
    tally: Tally,
    /// Calls of [`Device::warming`] under way.
    warming: AtomicU32,
}

/// What every buffer is for.
const USAGES: wgpu::BufferUsages =
    wgpu::BufferUsages::STORAGE.union(wgpu::BufferUsages::COPY_SRC).union(wgpu::BufferUsages::COPY_DST);

/// What runs the kernels.
pub(crate) enum Engine {
    Gpu(Box<Gpu>),
    Cpu(Cpu),
}

impl Device {
    /// Opens a GPU.
    ///
    /// # Errors
    /// [`Error::NoAdapter`] if nothing fits the selection, [`Error::Ambiguous`] if several devices do, [`Error::Open`] if the driver refuses, [`Error::Tuning`].
    pub fn open(options: &OpenOptions) -> Result<Self> {
        Self::open_pretending(options, &Pretend::default())
    }

    /// Opens a GPU that pretends to be another one: for tests on machines without that.
    ///
    /// # Errors
    /// As [`Self::open`].
    #[doc(hidden)]
    pub fn open_pretending(options: &OpenOptions, pretend: &Pretend) -> Result<Self> {
        let (adapter, chosen) = adapter::select(options)?;
        let tuning = options.tuning.of(&chosen)?;
        let (device, queue, cooperative) = adapter::request(&adapter, options, pretend)
            .map_err(|error| Error::Open { adapter: chosen.name.clone(), message: error.to_string() })?;
        // Where wgpu checks each indirect launch, direct ones are cheaper.
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

    /// The CPU twins of the kernels: always there, exact, slow.
    #[must_use]
    pub fn cpu() -> Self {
        Self(Arc::new(Shared {
            engine: Engine::Cpu(Cpu::default()),
            caps: Caps::WEBGPU,
            name: "CPU twins".to_owned(),
            summary: None,
            loops: LoopWay::Direct,
            tuning: Tuning::default(),
            tally: Tally::default(),
            warming: AtomicU32::new(0),
        }))
    }

    /// Takes a host app's device and queue, made with [`Self::required_features`] and [`Self::required_limits`], or with
    /// less. The host's handlers for loss and errors stay in place. A loss is noticed at the next call all the same; a host that
    /// knows the reason passes it on with [`Self::report_lost`].
    ///
    /// # Errors
    /// [`Error::Limits`] names the limits of the device that are below [`REQUIRED_LIMITS`](crate::REQUIRED_LIMITS). No feature is required.
    pub fn from_wgpu(device: wgpu::Device, queue: wgpu::Queue) -> Result<Self> {
        Self::from_wgpu_tuned(device, queue, Tuning::default())
    }

    /// The same, with a tuning, as [`Tuning::read`] gives one.
    ///
    /// # Errors
    /// As [`Self::from_wgpu`].
    pub fn from_wgpu_tuned(device: wgpu::Device, queue: wgpu::Queue, tuning: Tuning) -> Result<Self> {
        let low = limits::low(&device.limits());
        if !low.is_empty() {
            return Err(Error::Limits { adapter: device.adapter_info().name, low });
        }
        // Whether wgpu checks indirect launches is a matter of the host's instance, and by default it does.
        let wrapped = Self::wrap(device, queue, (0, &Pretend::default()), tuning, LoopWay::Direct, <_>::default());
        if let Engine::Gpu(gpu) = &wrapped.0.engine {
            gpu.watch();
        }
        Ok(wrapped)
    }

    /// The features that the engine uses, as far as the adapter has them.
    #[must_use]
    pub fn required_features(adapter: &wgpu::Adapter) -> wgpu::Features {
        adapter::features(adapter)
    }

    /// The limits that the engine wants: all that the adapter has. [`REQUIRED_LIMITS`](crate::REQUIRED_LIMITS) has the least that it works with.
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
        }))
    }

    /// What launch functions choose variants by.
    #[must_use]
    pub fn caps(&self) -> Caps {
        self.0.caps
    }

    /// Name of the adapter, or `CPU twins`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Whether this is [`Self::cpu`]. A software driver is not.
    #[must_use]
    pub fn is_cpu(&self) -> bool {
        matches!(self.0.engine, Engine::Cpu(_))
    }

    /// The adapter as it was opened; `None` for the CPU twins.
    #[must_use]
    pub fn summary(&self) -> Option<&AdapterSummary> {
        self.0.summary.as_ref()
    }

    /// Which kernels are preferred here.
    #[must_use]
    pub fn tuning(&self) -> &Tuning {
        &self.0.tuning
    }

    /// The launch to take of several that compute the same.
    #[must_use]
    pub fn pick(&self, variants: Variants) -> Launch {
        self.0.tuning.pick(variants)
    }

    /// How loops are launched here that all rows may leave.
    #[must_use]
    pub fn loops(&self) -> LoopWay {
        self.0.loops
    }

    /// Memory of the device, as it is now.
    #[must_use]
    pub fn memory(&self) -> memory::Memory {
        match (&self.0.engine, &self.0.summary) {
            (Engine::Gpu(gpu), Some(summary)) => memory::of(summary.kind, memory::device_heaps(&gpu.device)),
            _ => memory::host(),
        }
    }

    /// Makes a buffer of zeros that kernels can bind and the host can write and read. The size is rounded up to 16 bytes.
    ///
    /// # Errors
    /// [`Error::TooLarge`], [`Error::OutOfMemory`], or a fault of the device.
    pub fn buffer(&self, label: &str, bytes: u64) -> Result<Buffer> {
        self.buffer_for(label, bytes, wgpu::BufferUsages::empty())
    }

    /// The same, also for numbers of workgroups.
    pub(crate) fn indirect_buffer(&self, label: &str, bytes: u64) -> Result<Buffer> {
        self.buffer_for(label, bytes, wgpu::BufferUsages::INDIRECT)
    }

    fn buffer_for(&self, label: &str, bytes: u64, further: wgpu::BufferUsages) -> Result<Buffer> {
        let size = bytes.max(1).checked_next_multiple_of(16).unwrap_or(u64::MAX);
        let memory = match &self.0.engine {
            Engine::Cpu(_) => Memory::Cpu(cpu::words(label, size)?),
            Engine::Gpu(gpu) => {
                gpu.check()?;
                let limit = gpu.limits.max_buffer_size;
                if size > limit {
                    return Err(Error::TooLarge { buffer: label.to_owned(), bytes: size, limit });
                }
                let descriptor = wgpu::BufferDescriptor {
                    label: Some(label),
                    size,
                    usage: USAGES | further,
                    mapped_at_creation: false,
                };
                Memory::Gpu(gpu.guard(|| format!("buffer {label}"), || gpu.device.create_buffer(&descriptor))?)
            }
        };
        Ok(Buffer::new(self, label, size, memory))
    }

    /// Makes the memory that a binding in a texture asks for: zeros, at least so many bytes. On the CPU, a buffer. It is written and read
    /// in whole texels of 16 bytes, and cannot be a result of an execution.
    ///
    /// # Errors
    /// As [`Self::buffer`].
    pub fn texels(&self, label: &str, bytes: u64) -> Result<Buffer> {
        let Engine::Gpu(gpu) = &self.0.engine else { return self.buffer(label, bytes) };
        let texels = Texels::new(gpu, label, bytes.max(1))?;
        Ok(Buffer::new(self, label, texels.bytes(), Memory::Texels(texels)))
    }

    /// Memory for a binding of a kernel: [`Self::texels`] or [`Self::buffer`].
    ///
    /// # Errors
    /// As those.
    pub fn memory_for(&self, binding: &Binding, bytes: u64) -> Result<Buffer> {
        match binding.place {
            Place::Buffer => self.buffer(binding.name, bytes),
            Place::Texture => self.texels(binding.name, bytes),
        }
    }

    /// Writes `data` at a byte offset that is a multiple of 4. If its length is not a multiple of 4, the rest of the last word
    /// becomes 0. On a GPU the data is staged: executions that follow see it, those in flight don't, and at most some 100 MiB of
    /// host memory are taken, so a large write may wait.
    ///
    /// # Errors
    /// [`Error::Range`] if the data does not fit, [`Error::Foreign`], or a fault of the device.
    pub fn write(&self, buffer: &Buffer, offset: u64, data: &[u8]) -> Result<()> {
        self.check_range(buffer, offset, offset.saturating_add(data.len() as u64))?;
        match (&self.0.engine, buffer.memory()) {
            (Engine::Gpu(gpu), Memory::Gpu(target)) => gpu.write(&self.0.tally, target, offset, data)?,
            (Engine::Gpu(gpu), Memory::Texels(target)) => target.write(gpu, &self.0.tally, offset, data)?,
            (_, Memory::Cpu(words)) => {
                let mut words = words.write().unwrap_or_else(PoisonError::into_inner);
                let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut words);
                let start = index(offset);
                let end = start + data.len();
                bytes[start..end].copy_from_slice(data);
                bytes[end..end.next_multiple_of(4)].fill(0);
            }
            _ => return Err(foreign(buffer)),
        }
        add(&self.0.tally.bytes_written, data.len() as u64);
        Ok(())
    }

    /// Reads a range of bytes, after everything that was submitted. Blocks; counts as a wait and a read-back.
    ///
    /// # Errors
    /// [`Error::Range`], [`Error::Foreign`], [`Error::Timeout`], or a fault of the device.
    pub fn read(&self, buffer: &Buffer, range: Range<u64>) -> Result<Vec<u8>> {
        self.check_range(buffer, range.start, range.end)?;
        add(&self.0.tally.read_backs, 1);
        let bytes = match (&self.0.engine, buffer.memory()) {
            (Engine::Gpu(gpu), Memory::Gpu(source)) => readback::read(self, gpu, source, range)?,
            (Engine::Gpu(gpu), Memory::Texels(source)) => source.read(self, gpu, range)?,
            (_, Memory::Cpu(words)) => {
                let words = words.read().unwrap_or_else(PoisonError::into_inner);
                bytemuck::cast_slice::<u32, u8>(&words)[index(range.start)..index(range.end)].to_vec()
            }
            _ => return Err(foreign(buffer)),
        };
        add(&self.0.tally.bytes_read, bytes.len() as u64);
        Ok(bytes)
    }

    /// Makes a graph ready to run here: compiles what is missing, in parallel, allocates the scratch tensors with
    /// overlapping lifetimes kept apart, and makes the bind groups. After this an execution creates nothing.
    ///
    /// # Errors
    /// [`Error::TooLarge`] for a binding that exceeds the device's, [`Error::Launch`] for a launch that does, [`Error::Foreign`] for
    /// a buffer of another device, or what compiling and allocating give.
    #[expect(clippy::needless_pass_by_value, reason = "a graph is recorded for one plan")]
    pub fn plan(&self, graph: Graph) -> Result<Plan> {
        let plan = Plan::new(self, &graph, self.0.loops)?;
        self.warm(&plan)?;
        Ok(plan)
    }

    /// Waits until the device has done all that was submitted, so that the memory of buffers dropped before is free. Counts as a wait.
    ///
    /// # Errors
    /// [`Error::Timeout`], or a fault of the device.
    pub fn wait_idle(&self) -> Result<()> {
        let Engine::Gpu(gpu) = &self.0.engine else { return Ok(()) };
        let last = gpu.submit(&self.0.tally, || None)?;
        gpu.wait(&self.0.tally, &last)
    }

    /// Runs a plan with a value for each of its graph's counts, in their order. Never waits. `reads` are copied out behind the
    /// last launch, whole; the ticket gives their content. No ticket comes back if `reads` is empty.
    ///
    /// # Errors
    /// [`Error::Counts`], [`Error::Foreign`], [`Error::Busy`] while an execution of it in pieces is under way, or a fault of the device.
    pub fn execute(&self, plan: &Plan, counts: &[u32], reads: &[&Buffer]) -> Result<Option<ReadBack>> {
        exec::execute(self, plan, counts, reads)
    }

    /// Begins to run a plan like [`Self::execute`], in pieces that the host asks for. Nothing is submitted yet.
    ///
    /// # Errors
    /// As [`Self::execute`].
    pub fn begin(&self, plan: &Plan, counts: &[u32], reads: &[&Buffer]) -> Result<Execution> {
        exec::begin(self, plan, counts, reads)
    }

    /// Runs a plan like [`Self::execute`], and times every launch: on the device where it has timestamps, by waiting for
    /// each launch where not. Waits, and creates objects.
    ///
    /// # Errors
    /// As [`Self::execute`].
    pub fn profile(&self, plan: &Plan, counts: &[u32]) -> Result<Profile> {
        profile::profile(self, plan, counts)
    }

    /// Why a launch cannot run here, if it cannot: see [`Launch::lacks`]. The twins run everything.
    #[must_use]
    pub fn lacks(&self, launch: &Launch) -> Option<String> {
        if self.is_cpu() { None } else { launch.lacks(&self.caps()) }
    }

    /// Runs a case here and on its CPU twin, compares the outputs, and times a launch. Waits, and creates objects.
    ///
    /// # Errors
    /// As [`Self::plan`], [`Self::execute`] and [`Self::read`]; a wrong result is no error but a [`Verdict`] that did not pass.
    pub fn verify(&self, case: &Case) -> Result<Verdict> {
        verify::verify(self, case)
    }

    /// Compiles the pipelines of launches ahead of their plan. Drivers may still finish the work at the first dispatch.
    ///
    /// # Errors
    /// What the compiler says about the first kernel that it refuses.
    pub fn compile<'a>(&self, launches: impl IntoIterator<Item = &'a Launch>) -> Result<()> {
        match &self.0.engine {
            Engine::Cpu(_) => Ok(()),
            Engine::Gpu(gpu) => {
                gpu.check()?;
                let launches: Vec<&Launch> = launches.into_iter().collect();
                launches.iter().try_for_each(|launch| graph::check(launch).map(drop))?;
                gpu.pipelines.get(gpu, &self.0.tally, launches).map(drop)
            }
        }
    }

    /// What was done so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.0.tally.snapshot()
    }

    /// Whether the device still works, as far as is known without asking it.
    ///
    /// # Errors
    /// The first fault, [`Error::Lost`] above all.
    pub fn check(&self) -> Result<()> {
        match &self.0.engine {
            Engine::Gpu(gpu) => gpu.check(),
            Engine::Cpu(_) => Ok(()),
        }
    }

    /// Sets how long a submission may take before the device counts as hung; then every call gives [`Error::Timeout`]. `None`, the default, means 120 seconds, or
    /// twenty times the estimated time of the work, if that is longer. Only time in which the host waits for the device or polls it counts, and the clock starts
    /// again whenever a submission ends. On the CPU there is nothing to wait for.
    pub fn set_timeout(&self, limit: Option<Duration>) {
        if let Engine::Gpu(gpu) = &self.0.engine {
            gpu.watchdog.set_limit(limit);
        }
    }

    /// Looks whether a thread is stuck in the driver: some drivers that hang block the host when it submits more work, which no call can then report. A host that
    /// wants to know calls this now and then, such as every second, from a thread that does nothing else with the device. It never blocks.
    ///
    /// # Errors
    /// [`Error::Timeout`] if a submission or a poll has not returned for as long as [`Self::set_timeout`] says; otherwise the first fault, if there was one.
    pub fn look(&self) -> Result<()> {
        match &self.0.engine {
            Engine::Gpu(gpu) => gpu.look(),
            Engine::Cpu(_) => Ok(()),
        }
    }

    /// How long a host may wait between two calls of [`Self::look`].
    #[must_use]
    pub fn look_interval(&self) -> Duration {
        match &self.0.engine {
            Engine::Gpu(gpu) => gpu.watchdog.slice(),
            Engine::Cpu(_) => Duration::MAX,
        }
    }

    /// Tells the engine that the device is lost: for host apps with a device-lost callback of their own.
    pub fn report_lost(&self, message: &str) {
        if let Engine::Gpu(gpu) = &self.0.engine {
            gpu.lose(message);
        }
    }

    /// Destroys the device under the engine, as a driver reset would.
    #[doc(hidden)]
    pub fn lose_for_test(&self) {
        if let Engine::Gpu(gpu) = &self.0.engine {
            gpu.device.destroy();
            // wgpu calls back when the queue is empty; the outcome is what the next call reports.
            let _ = gpu.device.poll(wgpu::PollType::wait_indefinitely());
        }
    }

    /// The whole content of a CPU buffer.
    pub(crate) fn content(&self, buffer: &Buffer) -> Vec<u8> {
        let words = buffer.words().map(|words| words.read().unwrap_or_else(PoisonError::into_inner));
        let bytes = words.map_or_else(Vec::new, |words| bytemuck::cast_slice(&words).to_vec());
        add(&self.0.tally.bytes_read, bytes.len() as u64);
        bytes
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.0.engine
    }

    pub(crate) fn warmers(&self) -> &AtomicU32 {
        &self.0.warming
    }

    pub(crate) fn tally(&self) -> &Tally {
        &self.0.tally
    }

    /// Whether two handles mean the same device.
    pub(crate) fn same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Fails if a buffer belongs to another device.
    pub(crate) fn check_owner(&self, buffer: &Buffer) -> Result<()> {
        if self.same(buffer.owner()) { Ok(()) } else { Err(foreign(buffer)) }
    }

    fn check_range(&self, buffer: &Buffer, start: u64, end: u64) -> Result<()> {
        self.check_owner(buffer)?;
        let size = buffer.size();
        let whole = buffer.texels().is_none_or(|_| end.is_multiple_of(TEXEL) && start.is_multiple_of(TEXEL));
        if start > end || end > size || !start.is_multiple_of(4) || !whole {
            return Err(Error::Range { buffer: buffer.label().to_owned(), start, end, size });
        }
        Ok(())
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Device").field(&self.0.name).finish()
    }
}

fn foreign(buffer: &Buffer) -> Error {
    Error::Foreign { what: format!("buffer {}", buffer.label()), owner: "device" }
}

/// An offset into memory that exists, so it fits.
#[expect(clippy::cast_possible_truncation, reason = "offsets were checked against memory of this process")]
fn index(offset: u64) -> usize {
    offset as usize
}
