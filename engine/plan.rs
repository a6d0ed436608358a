//! A plan: a graph prepared for one device. Making a plan creates everything that its executions need.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ruminate_shaders::{Cost, Launch, Place, UNIFORM_BYTES};

use crate::buffer::{Buffer, Memory};
use crate::counters::add;
use crate::device::{Device, Engine};
use crate::error::{Error, Result};
use crate::gates::{Gate, LoopWay};
use crate::gpu::Gpu;
use crate::graph::{Graph, Recorded};
use crate::liveness;
use crate::pipeline::Pipeline;
use crate::walk::Program;

/// A graph prepared for a device: a cheap handle. A plan owns its scratch memory, so its executions run one after another.
#[derive(Clone)]
pub struct Plan(Arc<Prepared>);

/// Content of a plan.
pub(crate) struct Prepared {
    pub(crate) label: String,
    pub(crate) device: Device,
    pub(crate) program: Program,
    pub(crate) calls: Vec<Call>,
    /// On a GPU, the dispatch of each call; empty on the CPU.
    pub(crate) dispatches: Vec<Dispatch>,
    pub(crate) counts: usize,
    /// Locked while an execution is submitted, so that executions of two threads do not interleave. True during an execution in pieces.
    running: Mutex<bool>,
    kept: Vec<(String, Buffer)>,
    pipelines: BTreeSet<String>,
    scratch_bytes: u64,
}

/// A launch with its buffers.
pub(crate) struct Call {
    pub(crate) launch: Launch,
    pub(crate) label: String,
    /// The buffer of each binding, and the bytes of it that the tensor occupies.
    pub(crate) bound: Vec<(Buffer, u64)>,
}

/// Commands of a launch, ready to be encoded.
pub(crate) struct Dispatch {
    pub(crate) pipeline: Arc<Pipeline>,
    pub(crate) bind_group: wgpu::BindGroup,
    pub(crate) workgroups: [u32; 3],
    /// Buffer and offset of the numbers of workgroups, if a gate writes them.
    pub(crate) groups: Option<(wgpu::Buffer, u64)>,
    /// Assumed time of the launch.
    pub(crate) seconds: f64,
}

impl Plan {
    /// Prepares a graph. `way` is the way to launch loops in which all rows may exit.
    pub(crate) fn new(device: &Device, graph: &Graph, way: LoopWay) -> Result<Self> {
        let layout = liveness::assign(graph);
        for node in &graph.nodes {
            node.buffer.as_ref().map_or(Ok(()), |buffer| device.check_owner(buffer))?;
        }
        if let Engine::Gpu(gpu) = device.engine() {
            gpu.check()?;
            check_limits(device, gpu, graph)?;
        }
        let slots: Vec<Buffer> = layout
            .slots
            .iter()
            .enumerate()
            .map(|(slot, &(place, bytes))| {
                let label = format!("{} scratch {slot}", graph.label);
                match place {
                    Place::Buffer => device.buffer(&label, bytes),
                    Place::Texture => device.texels(&label, bytes),
                    Place::Uniform => device.uniform_buffer(&label, bytes),
                }
            })
            .collect::<Result<_>>()?;
        let buffer_of = |index: usize| -> Option<Buffer> {
            let scratch = layout.slot[index].map(|slot| slots[slot].clone());
            graph.nodes[index].buffer.clone().or(scratch)
        };
        let mut calls: Vec<Call> = graph
            .launches
            .iter()
            .map(|Recorded { launch, label, bindings }| Call {
                launch: launch.clone(),
                label: label.clone(),
                // Every bound tensor is used, so it has a buffer.
                bound: bindings
                    .iter()
                    .filter_map(|&(index, _)| Some((buffer_of(index)?, graph.nodes[index].bytes)))
                    .collect(),
            })
            .collect();
        let gates = match (device.engine(), way) {
            (Engine::Gpu(_), LoopWay::Indirect) => Gate::all(device, graph, buffer_of)?,
            _ => Vec::new(),
        };
        let (gates, gate_calls): (Vec<Gate>, Vec<Call>) = gates.into_iter().unzip();
        let program = Program::new(&graph.steps, |inner| {
            let (_, launches) = inner.gated()?;
            Some(calls.len() + gates.iter().position(|gate| gate.launches == launches)?)
        });
        calls.extend(gate_calls);
        let mut dispatches = match device.engine() {
            Engine::Gpu(gpu) => prepare(device, gpu, &graph.label, &calls)?,
            Engine::Cpu(_) => Vec::new(),
        };
        gates.iter().for_each(|gate| gate.hang(&mut dispatches));
        let kept = graph.nodes.iter().enumerate().filter(|(_, node)| node.keep);
        add(&device.tally().live_bind_groups, dispatches.len() as u64);
        Ok(Self(Arc::new(Prepared {
            label: graph.label.clone(),
            device: device.clone(),
            program,
            counts: graph.counts.len(),
            running: Mutex::new(false),
            kept: kept.filter_map(|(index, node)| Some((node.name.clone(), buffer_of(index)?))).collect(),
            pipelines: calls.iter().map(|call| call.label.clone()).collect(),
            scratch_bytes: slots.iter().map(Buffer::size).sum(),
            calls,
            dispatches,
        })))
    }

    /// The buffer of a kept tensor, by its name: to write before and read after an execution.
    #[must_use]
    pub fn tensor(&self, name: &str) -> Option<&Buffer> {
        self.0.kept.iter().find(|(kept, _)| kept == name).map(|(_, buffer)| buffer)
    }

    /// Number of launches in an execution with these counts.
    #[must_use]
    pub fn launches(&self, counts: &[u32]) -> u64 {
        self.0.program.total(counts, |_| 1)
    }

    /// Bytes of scratch memory, including kept tensors but not imported ones.
    #[must_use]
    pub fn scratch_bytes(&self) -> u64 {
        self.0.scratch_bytes
    }

    /// Work of an execution with these counts, according to its launches.
    #[must_use]
    pub fn cost(&self, counts: &[u32]) -> Cost {
        let cost = |index: usize| self.0.calls[index].launch.cost;
        Cost {
            bytes: self.0.program.total(counts, |index| cost(index).bytes),
            flops: self.0.program.total(counts, |index| cost(index).flops),
        }
    }

    /// Labels of the kernel variants in use, sorted.
    pub fn pipelines(&self) -> impl Iterator<Item = &str> {
        self.0.pipelines.iter().map(String::as_str)
    }

    /// Fails if the plan belongs to another device, or if the number of counts is not that of its graph.
    pub(crate) fn check(&self, device: &Device, counts: &[u32]) -> Result<()> {
        let Prepared { label, counts: need, device: owner, .. } = &*self.0;
        if !owner.same(device) {
            return Err(Error::Foreign { what: format!("plan {label}"), owner: "device" });
        }
        if counts.len() != *need {
            return Err(Error::Counts { plan: label.clone(), need: *need, have: counts.len() });
        }
        Ok(())
    }

    /// Reserves the plan for an execution, which lasts as long as the guard, or until the guarded value is false again.
    pub(crate) fn acquire(&self) -> Result<MutexGuard<'_, bool>> {
        let running = self.0.running.lock().unwrap_or_else(PoisonError::into_inner);
        if *running { Err(Error::Busy { plan: self.0.label.clone() }) } else { Ok(running) }
    }

    /// Ends an execution in pieces.
    pub(crate) fn release(&self) {
        *self.0.running.lock().unwrap_or_else(PoisonError::into_inner) = false;
    }

    pub(crate) fn prepared(&self) -> &Prepared {
        &self.0
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        self.device.tally().live_bind_groups.fetch_sub(self.dispatches.len() as u64, Relaxed);
    }
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Prepared { label, calls, scratch_bytes, .. } = &*self.0;
        write!(f, "{label} ({} launches recorded, {scratch_bytes} bytes of scratch)", calls.len())
    }
}

/// Checks what depends on the device: sizes of bindings, their number, and workgroups.
fn check_limits(device: &Device, gpu: &Gpu, graph: &Graph) -> Result<()> {
    let caps = device.caps();
    for Recorded { launch, label, bindings } in &graph.launches {
        let refuse = |problem: String| Err(Error::Launch { launch: label.clone(), problem });
        if let Some(problem) = launch.lacks(&caps) {
            return refuse(problem);
        }
        for (&(index, _), binding) in bindings.iter().zip(launch.kernel.bindings_of(launch.choice)) {
            let node = &graph.nodes[index];
            let texture = node.place == Place::Texture;
            if texture != (binding.place == Place::Texture) {
                let (is, wanted) = if texture { ("a texture", "a buffer") } else { ("a buffer", "a texture") };
                return refuse(format!("{} is {is}, binding `{}` takes {wanted}", node.name, binding.name));
            }
            if binding.place == Place::Uniform && node.place != Place::Uniform {
                let problem =
                    format!("{} is not made for uniform bindings, binding `{}` is one", node.name, binding.name);
                return refuse(problem);
            }
            if !texture && node.bytes > caps.max_binding {
                let buffer = format!("{} as a binding of {label}", node.name);
                return Err(Error::TooLarge { buffer, bytes: node.bytes, limit: caps.max_binding });
            }
        }
        let storage = gpu.limits.max_storage_buffers_per_shader_stage;
        let buffers = launch.kernel.bindings_of(launch.choice).filter(|it| it.place == Place::Buffer).count();
        if buffers as u64 > u64::from(storage) {
            return refuse(format!("{buffers} storage buffers exceed the device's limit of {storage}"));
        }
        if launch.workgroups.iter().any(|&n| n > caps.max_workgroups) {
            return refuse(format!(
                "{:?} workgroups exceed the device's limit of {}",
                launch.workgroups, caps.max_workgroups
            ));
        }
    }
    Ok(())
}

/// Compiles the pipelines, puts all parameters into one uniform buffer, and creates the bind groups.
fn prepare(device: &Device, gpu: &Gpu, label: &str, calls: &[Call]) -> Result<Vec<Dispatch>> {
    let tally = device.tally();
    let pipelines = gpu.pipelines.get(gpu, tally, calls.iter().map(|call| &call.launch))?;
    let align = usize::try_from(gpu.limits.min_uniform_buffer_offset_alignment).unwrap_or(256).max(16);
    let mut params = Vec::new();
    let offsets: Vec<usize> = calls
        .iter()
        .map(|call| {
            let offset = params.len();
            params.extend_from_slice(&call.launch.params);
            params.resize(params.len().max(offset + 16).next_multiple_of(align), 0);
            offset
        })
        .collect();
    let size = params.len().max(16) as u64;
    if size > gpu.limits.max_buffer_size {
        let buffer = format!("the parameters of {label}");
        return Err(Error::TooLarge { buffer, bytes: size, limit: gpu.limits.max_buffer_size });
    }
    let uniforms = gpu.guard(
        || format!("the parameters of {label}"),
        || {
            gpu.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some(label),
                size,
                usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
                mapped_at_creation: false,
            })
        },
    )?;
    add(&tally.buffers, 1);
    gpu.write(tally, &uniforms, 0, &params)?;
    let bind = |(call, (pipeline, offset)): (&Call, (Arc<Pipeline>, usize))| {
        let part = |buffer, offset, bytes| {
            let size = wgpu::BufferSize::new(bytes);
            wgpu::BindingResource::Buffer(wgpu::BufferBinding { buffer, offset, size })
        };
        let places = call.launch.kernel.bindings_of(call.launch.choice).map(|binding| binding.place);
        let bound = call.bound.iter().zip(places).filter_map(|((buffer, bytes), place)| match buffer.memory() {
            Memory::Gpu(buffer) if place == Place::Uniform => Some(part(buffer, 0, UNIFORM_BYTES)),
            Memory::Gpu(buffer) => Some(part(buffer, 0, *bytes)),
            Memory::Texels(texels) => Some(wgpu::BindingResource::TextureView(&texels.view)),
            Memory::Cpu(_) => None,
        });
        let bytes = call.launch.params.len().next_multiple_of(16).max(16);
        let entries: Vec<_> = (0..)
            .zip(bound.chain([part(&uniforms, offset as u64, bytes as u64)]))
            .map(|(binding, resource)| wgpu::BindGroupEntry { binding, resource })
            .collect();
        let descriptor =
            wgpu::BindGroupDescriptor { label: Some(&call.label), layout: &pipeline.layout, entries: &entries };
        let bind_group = gpu.guard(
            || format!("the bindings of {} in {label}", call.label),
            || gpu.device.create_bind_group(&descriptor),
        )?;
        add(&tally.bind_groups, 1);
        let (workgroups, seconds) = (call.launch.workgroups, gpu.rates.seconds(call.launch.cost));
        Ok(Dispatch { pipeline, bind_group, workgroups, groups: None, seconds })
    };
    calls.iter().zip(pipelines.into_iter().zip(offsets)).map(bind).collect()
}
