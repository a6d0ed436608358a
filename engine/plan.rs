//! A plan: a graph made ready for one device. Making it creates everything that executing it needs.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex};

use ruminate_shaders::{Cost, Launch};

use crate::buffer::Buffer;
use crate::counters::add;
use crate::device::{Device, Engine};
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::graph::{Graph, Recorded, Step};
use crate::liveness;
use crate::pipeline::Pipeline;

/// A graph made ready for a device. Its scratch memory is its own, so executions of one plan follow each other.
pub struct Plan {
    pub(crate) label: String,
    pub(crate) device: Device,
    pub(crate) steps: Vec<Step>,
    pub(crate) calls: Vec<Call>,
    /// On a GPU, what each call encodes; empty on the CPU.
    pub(crate) dispatches: Vec<Dispatch>,
    pub(crate) counts: usize,
    /// Held while an execution is submitted, so that those of two threads don't mix.
    pub(crate) turn: Mutex<()>,
    kept: Vec<(String, Buffer)>,
    pipelines: BTreeSet<String>,
    scratch_bytes: u64,
}

/// A launch with its buffers.
pub(crate) struct Call {
    pub(crate) launch: Launch,
    pub(crate) label: String,
    /// The buffer of each binding and the bytes of it that the tensor takes.
    pub(crate) bound: Vec<(Buffer, u64)>,
}

/// What a launch encodes.
pub(crate) struct Dispatch {
    pub(crate) pipeline: Arc<Pipeline>,
    pub(crate) bind_group: wgpu::BindGroup,
    pub(crate) workgroups: [u32; 3],
    /// Time that it is assumed to take.
    pub(crate) seconds: f64,
}

impl Plan {
    pub(crate) fn new(device: &Device, graph: &Graph) -> Result<Self> {
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
            .map(|(slot, &bytes)| device.buffer(&format!("{} scratch {slot}", graph.label), bytes))
            .collect::<Result<_>>()?;
        let buffer_of = |index: usize| -> Option<Buffer> {
            let scratch = layout.slot[index].map(|slot| slots[slot].clone());
            graph.nodes[index].buffer.clone().or(scratch)
        };
        let calls: Vec<Call> = graph
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
        let dispatches = match device.engine() {
            Engine::Gpu(gpu) => prepare(device, gpu, &graph.label, &calls)?,
            Engine::Cpu(_) => Vec::new(),
        };
        let kept = graph.nodes.iter().enumerate().filter(|(_, node)| node.keep);
        Ok(Self {
            label: graph.label.clone(),
            device: device.clone(),
            steps: graph.steps.clone(),
            counts: graph.counts.len(),
            turn: Mutex::new(()),
            kept: kept.filter_map(|(index, node)| Some((node.name.clone(), buffer_of(index)?))).collect(),
            pipelines: calls.iter().map(|call| call.label.clone()).collect(),
            scratch_bytes: layout.slots.iter().sum(),
            calls,
            dispatches,
        })
    }

    /// The buffer of a tensor that was kept, by its name: to write before and read after an execution.
    #[must_use]
    pub fn tensor(&self, name: &str) -> Option<&Buffer> {
        self.kept.iter().find(|(kept, _)| kept == name).map(|(_, buffer)| buffer)
    }

    /// Launches of an execution with these counts.
    #[must_use]
    pub fn launches(&self, counts: &[u32]) -> u64 {
        self.total(&self.steps, counts, &|_| 1)
    }

    /// Bytes of scratch memory, kept tensors included, imported ones not.
    #[must_use]
    pub fn scratch_bytes(&self) -> u64 {
        self.scratch_bytes
    }

    /// Work of an execution with these counts, as the launches state it.
    #[must_use]
    pub fn cost(&self, counts: &[u32]) -> Cost {
        Cost {
            bytes: self.total(&self.steps, counts, &|call| call.launch.cost.bytes),
            flops: self.total(&self.steps, counts, &|call| call.launch.cost.flops),
        }
    }

    /// Labels of the kernel variants in use, sorted.
    pub fn pipelines(&self) -> impl Iterator<Item = &str> {
        self.pipelines.iter().map(String::as_str)
    }

    fn total(&self, steps: &[Step], counts: &[u32], of: &dyn Fn(&Call) -> u64) -> u64 {
        let one = |step: &Step| match step {
            Step::Launch(index) => of(&self.calls[*index]),
            Step::Repeat(count, body) => self.total(body, counts, of).saturating_mul(u64::from(count.times(counts))),
        };
        steps.iter().map(one).fold(0, u64::saturating_add)
    }

    /// Fails if the plan is another device's or the counts are not as many as its graph's.
    pub(crate) fn check(&self, device: &Device, counts: &[u32]) -> Result<()> {
        if !self.device.same(device) {
            return Err(Error::Foreign { what: format!("plan {}", self.label), owner: "device" });
        }
        if counts.len() != self.counts {
            return Err(Error::Counts { plan: self.label.clone(), need: self.counts, have: counts.len() });
        }
        Ok(())
    }

    /// Visits the launches of an execution in order.
    pub(crate) fn walk(&self, counts: &[u32], visit: &mut dyn FnMut(usize) -> Result<()>) -> Result<()> {
        walk(&self.steps, counts, visit)
    }
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} launches recorded, {} bytes of scratch)", self.label, self.calls.len(), self.scratch_bytes)
    }
}

fn walk(steps: &[Step], counts: &[u32], visit: &mut dyn FnMut(usize) -> Result<()>) -> Result<()> {
    for step in steps {
        match step {
            Step::Launch(index) => visit(*index)?,
            Step::Repeat(count, body) => {
                for _ in 0..count.times(counts) {
                    walk(body, counts, visit)?;
                }
            }
        }
    }
    Ok(())
}

/// Checks what only the device can tell: sizes of bindings, their number, and workgroups.
fn check_limits(device: &Device, gpu: &Gpu, graph: &Graph) -> Result<()> {
    let caps = device.caps();
    for Recorded { launch, label, bindings } in &graph.launches {
        let refuse = |problem: String| Err(Error::Launch { launch: label.clone(), problem });
        for &(index, _) in bindings {
            let node = &graph.nodes[index];
            if node.bytes > caps.max_binding {
                let buffer = format!("{} as a binding of {label}", node.name);
                return Err(Error::TooLarge { buffer, bytes: node.bytes, limit: caps.max_binding });
            }
        }
        let storage = gpu.limits.max_storage_buffers_per_shader_stage;
        if bindings.len() as u64 > u64::from(storage) {
            return refuse(format!("{} storage buffers, the device takes {storage}", bindings.len()));
        }
        if launch.workgroups.iter().any(|&n| n > caps.max_workgroups) {
            return refuse(format!("{:?} workgroups, the device takes {}", launch.workgroups, caps.max_workgroups));
        }
    }
    Ok(())
}

/// Compiles the pipelines, puts all parameters into one uniform buffer, and makes the bind groups.
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
        let storage = call.bound.iter().filter_map(|(buffer, bytes)| Some((buffer.wgpu()?, 0, *bytes)));
        let bytes = call.launch.params.len().next_multiple_of(16).max(16);
        let entries: Vec<_> = (0..)
            .zip(storage.chain([(&uniforms, offset as u64, bytes as u64)]))
            .map(|(binding, (buffer, offset, bytes))| wgpu::BindGroupEntry {
                binding,
                resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                    buffer,
                    offset,
                    size: wgpu::BufferSize::new(bytes),
                }),
            })
            .collect();
        let descriptor =
            wgpu::BindGroupDescriptor { label: Some(&call.label), layout: &pipeline.layout, entries: &entries };
        let bind_group = gpu.guard(
            || format!("the bindings of {} in {label}", call.label),
            || gpu.device.create_bind_group(&descriptor),
        )?;
        add(&tally.bind_groups, 1);
        let (workgroups, seconds) = (call.launch.workgroups, gpu.rates.seconds(call.launch.cost));
        Ok(Dispatch { pipeline, bind_group, workgroups, seconds })
    };
    calls.iter().zip(pipelines.into_iter().zip(offsets)).map(bind).collect()
}
