//! A host app, as far as the engine sees it: an instance, an adapter, and a device that the app made for itself.

use anyhow::{Context, Result};
use pollster::block_on;
use ruminate_engine::{Device, OpenOptions, Tier, wgpu};

/// What a host app owns.
#[derive(Debug)]
pub struct Host {
    /// The app's instance; its report counts what lives on its devices.
    pub instance: wgpu::Instance,
    /// The app's device.
    pub device: wgpu::Device,
    /// The queue that the app submits to.
    pub queue: wgpu::Queue,
}

/// Handles that are alive on an instance: buffers, bind groups, pipelines, and what they are made from.
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
    /// A device on the adapter that [`Device::open`] chooses: with the features and limits that the engine asks for, or at the lowest tier
    /// with those that a device has if nothing is asked for.
    ///
    /// # Errors
    /// If there is no adapter, or it gives no device.
    pub fn open(options: &OpenOptions) -> Result<Self> {
        let index = Device::open(options)?.summary().context("the twins have no adapter")?.index;
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

    /// The engine on this device.
    ///
    /// # Errors
    /// If limits of the device are too low.
    pub fn engine(&self) -> Result<Device> {
        Ok(Device::from_wgpu(self.device.clone(), self.queue.clone())?)
    }

    /// What is alive, after the device has finished everything and freed what it can.
    ///
    /// # Errors
    /// If the device is lost.
    pub fn alive(&self) -> Result<Alive> {
        self.device.poll(wgpu::PollType::wait_indefinitely())?;
        let report = self.instance.generate_report().context("this backend counts nothing")?.hub;
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

    /// Bytes of device memory that are taken, those that wgpu needs for itself included; 0 where the backend does not tell.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.device.generate_allocator_report().map_or(0, |report| report.total_allocated_bytes)
    }
}
