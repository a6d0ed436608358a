//! Pipelines: one per kernel, variant and set of constants, compiled in parallel and kept for the life of the device.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use rayon::prelude::*;
use ruminate_shaders::{Access, Choice, Launch, Place, assemble};

use crate::counters::{Tally, add};
use crate::error::Result;
use crate::gpu::Gpu;
use crate::texels;

/// Everything that a pipeline depends on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    kernel: &'static str,
    choice: Choice,
    overrides: Vec<u32>,
}

impl Key {
    fn of(launch: &Launch) -> Self {
        Self { kernel: launch.kernel.name, choice: launch.choice, overrides: launch.overrides.clone() }
    }
}

/// A compiled kernel variant.
#[derive(Debug)]
pub(crate) struct Pipeline {
    pub(crate) pipeline: wgpu::ComputePipeline,
    pub(crate) layout: wgpu::BindGroupLayout,
}

/// The pipelines of a device.
#[derive(Debug, Default)]
pub(crate) struct Pipelines(Mutex<HashMap<Key, Arc<Pipeline>>>);

impl Pipelines {
    /// The pipelines of launches, in order; compiles those that are missing.
    pub(crate) fn get<'a>(
        &self,
        gpu: &Gpu,
        tally: &Tally,
        launches: impl IntoIterator<Item = &'a Launch>,
    ) -> Result<Vec<Arc<Pipeline>>> {
        let launches: Vec<_> = launches.into_iter().map(|launch| (Key::of(launch), launch)).collect();
        let mut seen = HashSet::new();
        let missing: Vec<_> = {
            let known = self.lock();
            launches.iter().filter(|(key, _)| !known.contains_key(key) && seen.insert(key.clone())).collect()
        };
        let compiled: Vec<_> = missing
            .into_par_iter()
            .map(|(key, launch)| Ok((key.clone(), Arc::new(compile(gpu, launch)?))))
            .collect::<Result<_>>()?;
        add(&tally.pipelines, compiled.len() as u64);
        let mut known = self.lock();
        known.extend(compiled);
        Ok(launches.iter().filter_map(|(key, _)| known.get(key).cloned()).collect())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Arc<Pipeline>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runtime checks for trusted kernels: those of indices, loops and divisions are off.
fn unchecked() -> wgpu::ShaderRuntimeChecks {
    wgpu::ShaderRuntimeChecks {
        bounds_checks: false,
        force_loop_bounding: false,
        int_div_checks: false,
        ..wgpu::ShaderRuntimeChecks::checked()
    }
}

/// Compiles one variant. The layout is explicit, so bind groups fit even if the compiler leaves bindings out.
fn compile(gpu: &Gpu, launch: &Launch) -> Result<Pipeline> {
    let kernel = launch.kernel;
    let label = kernel.label(launch.choice);
    let buffer = |ty| wgpu::BindingType::Buffer { ty, has_dynamic_offset: false, min_binding_size: None };
    let bound = kernel.bindings_of(launch.choice).map(|binding| match binding.place {
        Place::Buffer => buffer(wgpu::BufferBindingType::Storage { read_only: binding.access == Access::Read }),
        Place::Uniform => buffer(wgpu::BufferBindingType::Uniform),
        Place::Texture => texels::binding(binding.access == Access::Write),
    });
    let entries: Vec<_> = (0..)
        .zip(bound.chain([buffer(wgpu::BufferBindingType::Uniform)]))
        .map(|(binding, ty)| wgpu::BindGroupLayoutEntry {
            binding,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty,
            count: None,
        })
        .collect();
    let constants: Vec<_> =
        kernel.overrides.iter().zip(&launch.overrides).map(|(&name, &value)| (name, f64::from(value))).collect();
    gpu.guard(
        || format!("kernel {label}"),
        || {
            let device = &gpu.device;
            let source = wgpu::ShaderModuleDescriptor {
                label: Some(&label),
                source: wgpu::ShaderSource::Wgsl(assemble(kernel, launch.choice).into()),
            };
            let module = if kernel.is_trusted(launch.choice) {
                // SAFETY: `Part::trusted` marks kernels whose indices, loops and divisions are valid by their launch arithmetic. Plans bind buffers of at
                // least the sizes that a launch states, and all kernels are part of this project.
                unsafe { device.create_shader_module_trusted(source, unchecked()) }
            } else {
                device.create_shader_module(source)
            };
            let layout = device
                .create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: Some(&label), entries: &entries });
            let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
                label: Some(&label),
                bind_group_layouts: &[Some(&layout)],
                immediate_size: 0,
            });
            let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: Some(&label),
                layout: Some(&pipeline_layout),
                module: &module,
                entry_point: Some("main"),
                compilation_options: wgpu::PipelineCompilationOptions {
                    constants: &constants,
                    // Kernels write workgroup memory before they read it.
                    zero_initialize_workgroup_memory: false,
                },
                cache: gpu.kept.get().map(|kept| &kept.cache),
            });
            Pipeline { pipeline, layout }
        },
    )
}
