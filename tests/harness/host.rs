//! Simulated host app: an instance, an adapter, and a device created by the app.

use anyhow::{Context, Result};
use pollster::block_on;
use ruminate_engine::{Device, OpenOptions, Tier, wgpu};

/// Objects of a host app.
#[derive(Debug)]
pub struct Host {
    /// Instance; its report counts live objects.
    pub instance: wgpu::Instance,
    /// Device.
    pub device: wgpu::Device,
    /// Queue.
    pub queue: wgpu::Queue,
}

/// Number of live handles on an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alive {
    /// Buffers.
    pub buffers: usize,
    /// Bind groups.
    pub bind_groups: usize,
    /// Compute pipelines.
    pub pipelines: usize,
    /// Shader modules, layouts and query sets.
    pub others: usize,
    /// Encoders and finished commands.
    pub commands: usize,
}

impl Host {
    /// Opens a device on the adapter that [`Device::open`] chooses: with the features and limits that the engine requests, or at the WebGPU tier with the
    /// defaults.
    ///
    /// # Errors
    /// If no adapter exists, or the device cannot be opened.
    pub fn open(options: &OpenOptions) -> Result<Self> {
        let index = Device::open(options)?.summary().context("the CPU reference has no adapter")?.index;
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
            backends: options.backends,
            ..wgpu::InstanceDescriptor::new_without_display_handle()
        });
        let adapter = block_on(instance.enumerate_adapters(options.backends)).swap_remove(index);
        let descriptor = match options.limits {
            Tier::Full => wgpu::DeviceDescriptor {
                required_features: Device::required_features(&adapter),
                required_limits: Device::required_limits(&adapter),
                ..wgpu::DeviceDescriptor::default()
            },
            Tier::WebGpuDefaults => wgpu::DeviceDescriptor::default(),
        };
        let (device, queue) = block_on(adapter.request_device(&descriptor))?;
        Ok(Self { instance, device, queue })
    }

    /// Creates an engine device on this device.
    ///
    /// # Errors
    /// If limits of the device are too low.
    pub fn engine(&self) -> Result<Device> {
        Ok(Device::from_wgpu(self.device.clone(), self.queue.clone())?)
    }

    /// Live handles, after the device has finished all work and freed unused objects.
    ///
    /// # Errors
    /// If the device is lost.
    pub fn alive(&self) -> Result<Alive> {
        self.device.poll(wgpu::PollType::wait_indefinitely())?;
        let report = self.instance.generate_report().context("this backend has no report")?.hub;
        Ok(Alive {
            buffers: report.buffers.num_kept_from_user,
            bind_groups: report.bind_groups.num_kept_from_user,
            pipelines: report.compute_pipelines.num_kept_from_user,
            others: report.shader_modules.num_kept_from_user
                + report.bind_group_layouts.num_kept_from_user
                + report.pipeline_layouts.num_kept_from_user
                + report.query_sets.num_kept_from_user,
            commands: report.command_encoders.num_kept_from_user
                + report.command_buffers.num_kept_from_user
                + report.compute_passes.num_kept_from_user,
        })
    }

    /// Allocated device memory in bytes, including wgpu's own; 0 if the backend does not report it.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.device.generate_allocator_report().map_or(0, |report| report.total_allocated_bytes)
    }
}
