//! Minimum limits of a host app's device: a model runs with them, and an error names each limit that is lower.

use anyhow::{Context, Result, ensure};
use pollster::block_on;
use ruminate::{GenerateOptions, LoadOptions, Model, SessionOptions, demo};
use ruminate_engine::wgpu::{self, Limits};
use ruminate_engine::{Device, Error, OpenOptions, REQUIRED_LIMITS};
use ruminate_tests::{options, trial};

/// Opens an app's device with `limits` on the adapter under test.
fn open(options: &OpenOptions, limits: Limits) -> Result<(wgpu::Device, wgpu::Queue)> {
    let index = Device::open(options)?.summary().context("the CPU reference has no adapter")?.index;
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
        backends: options.backends,
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    });
    let adapter = block_on(instance.enumerate_adapters(options.backends)).swap_remove(index);
    let descriptor = wgpu::DeviceDescriptor { required_limits: limits, ..wgpu::DeviceDescriptor::default() };
    Ok(block_on(adapter.request_device(&descriptor))?)
}

/// WebGPU's limits, with those that the engine requires at their minimum.
fn least() -> Limits {
    let least = |name: &str| REQUIRED_LIMITS.iter().find(|limit| limit.name == name).map_or(0, |limit| limit.least);
    let small = |name| u32::try_from(least(name)).unwrap_or(u32::MAX);
    Limits {
        max_bind_groups: small("max_bind_groups"),
        max_bindings_per_bind_group: small("max_bindings_per_bind_group"),
        max_storage_buffers_per_shader_stage: small("max_storage_buffers_per_shader_stage"),
        max_uniform_buffers_per_shader_stage: small("max_uniform_buffers_per_shader_stage"),
        max_uniform_buffer_binding_size: least("max_uniform_buffer_binding_size"),
        max_storage_buffer_binding_size: least("max_storage_buffer_binding_size"),
        max_buffer_size: least("max_buffer_size"),
        max_compute_workgroup_storage_size: small("max_compute_workgroup_storage_size"),
        max_compute_invocations_per_workgroup: small("max_compute_invocations_per_workgroup"),
        max_compute_workgroup_size_x: small("max_compute_workgroup_size_x"),
        max_compute_workgroup_size_y: small("max_compute_workgroup_size_y"),
        max_compute_workgroup_size_z: small("max_compute_workgroup_size_z"),
        max_compute_workgroups_per_dimension: small("max_compute_workgroups_per_dimension"),
        ..Limits::defaults()
    }
}

#[trial(device)]
fn model_runs_at_minimum_limits(_: &Device) -> Result<()> {
    let (device, queue) = open(&options().context("no device")?, least())?;
    let model = Model::demo(&Device::from_wgpu(device, queue)?, LoadOptions::default())?;
    let mut session = model.session(SessionOptions { seed: 1, ..SessionOptions::default() })?;
    let asked = GenerateOptions { max_tokens: Some(4), steps: Some(8), ..GenerateOptions::default() };
    let pieces = session.generate(demo::PROMPTS[0].0, &asked)?.collect::<Result<Vec<_>, _>>()?;
    ensure!(!pieces.is_empty());
    Ok(())
}

/// A kernel's parameters take one uniform buffer, so a device with only one has none for a row of activations.
#[trial(device)]
fn uniform_buffers_beside_parameters_are_counted(_: &Device) -> Result<()> {
    for (buffers, found) in [(1, 0), (2, 64 << 10)] {
        let limits = Limits {
            max_uniform_buffers_per_shader_stage: buffers,
            max_uniform_buffer_binding_size: 64 << 10,
            ..least()
        };
        let (device, queue) = open(&options().context("no device")?, limits)?;
        let caps = Device::from_wgpu(device, queue)?.caps();
        ensure!(caps.max_uniform == found, "{buffers} uniform buffers leave {} bytes", caps.max_uniform);
    }
    Ok(())
}

#[trial(device)]
fn too_low_limits_are_named(_: &Device) -> Result<()> {
    let low = Limits { max_storage_buffers_per_shader_stage: 4, max_compute_workgroup_storage_size: 8192, ..least() };
    let (device, queue) = open(&options().context("no device")?, low)?;
    let error = Device::from_wgpu(device, queue).err().context("it was accepted")?;
    let Error::Limits { low, .. } = &error else { anyhow::bail!("{error}") };
    let named: Vec<_> = low.iter().map(|limit| (limit.name, limit.found, limit.least)).collect();
    ensure!(
        named == [("max_storage_buffers_per_shader_stage", 4, 8), ("max_compute_workgroup_storage_size", 8192, 16384)]
    );
    let message = error.to_string();
    ensure!(message.contains("max_storage_buffers_per_shader_stage is 4 (at least 8)"), "{message}");
    Ok(())
}
