//! A device: a GPU that the engine opens through wgpu, a host app's wgpu device, or the CPU reference (the kernels' CPU references).

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ruminate_shaders::{Binding, Caps, Case, Launch, Place, UNIFORM_BYTES, Variants};

use crate::adapter::AdapterSummary;
use crate::buffer::{Buffer, Memory};
use crate::counters::{Counters, Tally, add};
use crate::cpu::{self, Cpu};
use crate::error::{Error, Result};
use crate::exec::{self, Execution};
use crate::gates::LoopWay;
use crate::gpu::Gpu;
use crate::graph::{self, Graph};
use crate::memory;
use crate::plan::Plan;
use crate::profile::{self, Profile};
use crate::readback::{self, ReadBack};
use crate::texels::{TEXEL, Texels};
use crate::tune::Tuning;
use crate::verify::{self, Verdict};

/// A handle to a device: cheap to clone, and usable from any thread.
#[derive(Clone)]
pub struct Device(pub(crate) Arc<Shared>);

/// Parts of a device, which all of its handles share.
pub(crate) struct Shared {
    pub(crate) engine: Engine,
    pub(crate) caps: Caps,
    pub(crate) name: String,
    pub(crate) summary: Option<AdapterSummary>,
    pub(crate) tuning: Tuning,
    pub(crate) loops: LoopWay,
    pub(crate) tally: Tally,
    /// Number of calls of [`Device::warming`] under way.
    pub(crate) warming: AtomicU32,
    /// Classes of work for which plans have picked a launch.
    pub(crate) picked: Mutex<BTreeSet<String>>,
}

/// Usages that every buffer has.
const USAGES: wgpu::BufferUsages =
    wgpu::BufferUsages::STORAGE.union(wgpu::BufferUsages::COPY_SRC).union(wgpu::BufferUsages::COPY_DST);

/// Implementation that runs the kernels.
pub(crate) enum Engine {
    Gpu(Box<Gpu>),
    Cpu(Cpu),
}

impl Device {
    /// Capabilities by which launch functions choose kernel variants.
    #[must_use]
    pub fn caps(&self) -> Caps {
        self.0.caps
    }

    /// Name of the adapter, or `CPU reference`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Whether this is the CPU reference, [`Self::cpu`]. A software driver is a GPU in this sense.
    #[must_use]
    pub fn is_cpu(&self) -> bool {
        matches!(self.0.engine, Engine::Cpu(_))
    }

    /// Summary of the opened adapter; `None` for the CPU reference.
    #[must_use]
    pub fn summary(&self) -> Option<&AdapterSummary> {
        self.0.summary.as_ref()
    }

    /// Tuned kernel choices in use.
    #[must_use]
    pub fn tuning(&self) -> &Tuning {
        &self.0.tuning
    }

    /// Picks one of several launches that compute the same result, by the tuning.
    #[must_use]
    pub fn pick(&self, variants: Variants) -> Launch {
        let mut picked = self.0.picked.lock().unwrap_or_else(PoisonError::into_inner);
        if !picked.contains(&variants.class) {
            picked.insert(variants.class.clone());
        }
        drop(picked);
        self.0.tuning.pick(variants)
    }

    /// Names of the classes of work, as in [`Tuning::choices`], for which [`Self::pick`] has picked a launch. They are the work that plans on this device
    /// consist of.
    #[must_use]
    pub fn picked(&self) -> Vec<String> {
        let picked = self.0.picked.lock().unwrap_or_else(PoisonError::into_inner);
        picked.iter().cloned().collect()
    }

    /// Way in which the device launches loops that end early when all rows have exited.
    #[must_use]
    pub fn loops(&self) -> LoopWay {
        self.0.loops
    }

    /// Current state of the device's memory.
    #[must_use]
    pub fn memory(&self) -> memory::Memory {
        match (&self.0.engine, &self.0.summary) {
            (Engine::Gpu(gpu), Some(summary)) => memory::of(summary.kind, memory::device_heaps(&gpu.device)),
            _ => memory::host(),
        }
    }

    /// Creates a buffer of zeros that kernels can bind and the host can write and read. The size is rounded up to a multiple of 16 bytes.
    ///
    /// # Errors
    /// [`Error::TooLarge`], [`Error::OutOfMemory`], or a fault of the device.
    pub fn buffer(&self, label: &str, bytes: u64) -> Result<Buffer> {
        self.buffer_for(label, bytes, wgpu::BufferUsages::empty())
    }

    /// Creates a buffer that indirect launches can also read their number of workgroups from.
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

    /// Creates memory for a binding in a texture: at least `bytes` bytes of zeros. On the CPU it is a buffer. It is written and read
    /// in whole texels of 16 bytes, and cannot be a result of an execution.
    ///
    /// # Errors
    /// As [`Self::buffer`].
    pub fn texels(&self, label: &str, bytes: u64) -> Result<Buffer> {
        let Engine::Gpu(gpu) = &self.0.engine else { return self.buffer(label, bytes) };
        let texels = Texels::new(gpu, label, bytes.max(1))?;
        Ok(Buffer::new(self, label, texels.bytes(), Memory::Texels(texels)))
    }

    /// Creates a buffer that can also be bound as a uniform buffer of [`UNIFORM_BYTES`].
    pub(crate) fn uniform_buffer(&self, label: &str, bytes: u64) -> Result<Buffer> {
        self.buffer_for(label, bytes.max(UNIFORM_BYTES), wgpu::BufferUsages::UNIFORM)
    }

    /// Creates memory for a binding of a kernel, by [`Self::texels`] or [`Self::buffer`].
    ///
    /// # Errors
    /// As [`Self::buffer`].
    pub fn memory_for(&self, binding: &Binding, bytes: u64) -> Result<Buffer> {
        match binding.place {
            Place::Buffer => self.buffer(binding.name, bytes),
            Place::Texture => self.texels(binding.name, bytes),
            Place::Uniform => self.uniform_buffer(binding.name, bytes),
        }
    }

    /// Writes `data` at a byte offset that is a multiple of 4. If its length is not a multiple of 4, the rest of the last word
    /// becomes 0. On a GPU the data is staged: later executions see it, those in flight don't. Staging takes at most about 100 MiB of
    /// host memory, so a large write may wait.
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

    /// Reads a range of bytes after all submitted work has finished. Blocks; counts as a wait and a read-back.
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

    /// Prepares a graph for execution: compiles missing pipelines in parallel, allocates the scratch tensors so that those with
    /// overlapping lifetimes do not share memory, and creates the bind groups. Executing the plan creates no further objects.
    ///
    /// # Errors
    /// [`Error::TooLarge`] if a binding exceeds the device's limit, [`Error::Launch`] if a launch does, [`Error::Foreign`] for
    /// a buffer of another device, or an error of compilation or allocation.
    #[expect(clippy::needless_pass_by_value, reason = "a graph is recorded for one plan")]
    pub fn plan(&self, graph: Graph) -> Result<Plan> {
        let plan = Plan::new(self, &graph, self.0.loops)?;
        self.warm(&plan)?;
        Ok(plan)
    }

    /// Waits until all submitted work has finished, so that the memory of previously dropped buffers is free. Counts as a wait.
    ///
    /// # Errors
    /// [`Error::Timeout`], or a fault of the device.
    pub fn wait_idle(&self) -> Result<()> {
        let Engine::Gpu(gpu) = &self.0.engine else { return Ok(()) };
        let last = gpu.submit(&self.0.tally, || None)?;
        gpu.wait(&self.0.tally, &last)
    }

    /// Runs a plan with a value for each of its graph's counts, in order. Never waits. After the last launch, the buffers in `reads` are
    /// copied out whole; the returned ticket gives their content. Returns no ticket if `reads` is empty.
    ///
    /// # Errors
    /// [`Error::Counts`], [`Error::Foreign`], [`Error::Busy`] while the plan is being executed in pieces, or a fault of the device.
    pub fn execute(&self, plan: &Plan, counts: &[u32], reads: &[&Buffer]) -> Result<Option<ReadBack>> {
        exec::execute(self, plan, counts, reads)
    }

    /// Begins an execution that the host advances piece by piece. Nothing is submitted yet.
    ///
    /// # Errors
    /// As [`Self::execute`].
    pub fn begin(&self, plan: &Plan, counts: &[u32], reads: &[&Buffer]) -> Result<Execution> {
        exec::begin(self, plan, counts, reads)
    }

    /// Runs a plan like [`Self::execute`], and times every launch: by timestamps if the device has them, otherwise by waiting for
    /// each launch. Waits, and creates objects.
    ///
    /// # Errors
    /// As [`Self::execute`].
    pub fn profile(&self, plan: &Plan, counts: &[u32]) -> Result<Profile> {
        profile::profile(self, plan, counts)
    }

    /// Reason why the device cannot run a launch, or `None` if it can: see [`Launch::lacks`] and [`Launch::exceeds`]. The CPU reference runs everything.
    #[must_use]
    pub fn lacks(&self, launch: &Launch) -> Option<String> {
        let caps = self.caps();
        if self.is_cpu() { None } else { launch.lacks(&caps).or_else(|| launch.exceeds(&caps)) }
    }

    /// Runs a case on this device and on its CPU reference, compares the outputs, and times a launch. Waits, and creates objects.
    ///
    /// # Errors
    /// As [`Self::plan`], [`Self::execute`] and [`Self::read`]. A wrong result is not an error, but a [`Verdict`] that did not pass.
    pub fn verify(&self, case: &Case) -> Result<Verdict> {
        verify::verify(self, case)
    }

    /// Compiles the pipelines of launches ahead of their plan. Drivers may still finish the work at the first dispatch.
    ///
    /// # Errors
    /// The compiler's error for the first kernel that it rejects.
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

    /// Counts of the work done so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.0.tally.snapshot()
    }

    /// Checks whether the device has had a fault, without calling the driver.
    ///
    /// # Errors
    /// The first fault, most often [`Error::Lost`].
    pub fn check(&self) -> Result<()> {
        match &self.0.engine {
            Engine::Gpu(gpu) => gpu.check(),
            Engine::Cpu(_) => Ok(()),
        }
    }

    /// Sets the time that a submission may take before the device counts as hung and every call returns [`Error::Timeout`]. `None`, the default, means 120
    /// seconds, or twenty times the estimated time of the work, whichever is longer. Only time in which the host waits for the device or polls it counts, and
    /// the clock restarts whenever a submission ends. It has no effect on the CPU reference.
    pub fn set_timeout(&self, limit: Option<Duration>) {
        if let Engine::Gpu(gpu) = &self.0.engine {
            gpu.watchdog.set_limit(limit);
        }
    }

    /// Checks whether a thread is stuck in the driver. Some drivers that hang block the thread that submits more work, so that its call cannot return an error.
    /// To notice this, call `look` regularly, such as every second, from a thread that does nothing else with the device. It never blocks.
    ///
    /// # Errors
    /// [`Error::Timeout`] if a submission or a poll has not returned within the limit of [`Self::set_timeout`]; otherwise the first fault, if there was one.
    pub fn look(&self) -> Result<()> {
        match &self.0.engine {
            Engine::Gpu(gpu) => gpu.look(),
            Engine::Cpu(_) => Ok(()),
        }
    }

    /// Longest time that a host should leave between two calls of [`Self::look`].
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

    /// Destroys the underlying device, as a driver reset would.
    #[doc(hidden)]
    pub fn lose_for_test(&self) {
        if let Engine::Gpu(gpu) = &self.0.engine {
            gpu.device.destroy();
            // wgpu reports the loss once the queue is empty, and the next call returns it.
            let _ = gpu.device.poll(wgpu::PollType::wait_indefinitely());
        }
    }

    /// Returns the whole content of a CPU buffer.
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

    /// Whether two handles refer to the same device.
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

/// Converts an offset into memory of this process, which therefore fits `usize`.
#[expect(clippy::cast_possible_truncation, reason = "offsets were checked against memory of this process")]
fn index(offset: u64) -> usize {
    offset as usize
}
