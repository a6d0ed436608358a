//! Times indirect launches on a separate device, because the wgpu instance decides whether they are validated.

use ruminate_shaders::{Caps, assemble, ceiling};

use super::Sample;
use super::costs::LAUNCHES;
use crate::adapter;
use crate::clock::Instant;
use crate::device::Device;

/// Measures the seconds per indirect launch. Returns `None` if the device cannot be opened, or fails.
pub(super) fn sample(device: &Device, checked: bool, repetitions: u32) -> Option<Sample> {
    let summary = device.summary()?;
    let flags = if checked { wgpu::InstanceFlags::VALIDATION_INDIRECT_CALL } else { wgpu::InstanceFlags::empty() };
    let found = adapter::enumerate(adapter::backend(&summary.backend)?, flags);
    let adapter = found.into_iter().find(|it| it.get_info().name == summary.name)?;
    let (device, queue) = pollster::block_on(adapter.request_device(&wgpu::DeviceDescriptor::default())).ok()?;
    let scopes = [wgpu::ErrorFilter::OutOfMemory, wgpu::ErrorFilter::Internal, wgpu::ErrorFilter::Validation]
        .map(|filter| device.push_error_scope(filter));
    let times = time(&device, &queue, repetitions);
    let failed = scopes.into_iter().rev().any(|scope| pollster::block_on(scope.pop()).is_some());
    if failed { None } else { times.map(Sample::new) }
}

fn time(device: &wgpu::Device, queue: &wgpu::Queue, repetitions: u32) -> Option<Vec<f64>> {
    let launch = ceiling::copy(&Caps::WEBGPU, 1);
    let buffer = |content: &[u8], usage| {
        let size = content.len() as u64;
        let usage = usage | wgpu::BufferUsages::COPY_DST;
        let descriptor = wgpu::BufferDescriptor { label: Some("indirect"), size, usage, mapped_at_creation: false };
        let buffer = device.create_buffer(&descriptor);
        queue.write_buffer(&buffer, 0, content);
        buffer
    };
    let zeros = vec![0; usize::try_from(launch.sizes[0]).ok()?];
    let [x, y] = [(); 2].map(|()| buffer(&zeros, wgpu::BufferUsages::STORAGE));
    let params = buffer(&launch.params, wgpu::BufferUsages::UNIFORM);
    let groups = buffer(bytemuck::cast_slice(&launch.workgroups), wgpu::BufferUsages::INDIRECT);
    let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
        label: Some("indirect"),
        source: wgpu::ShaderSource::Wgsl(assemble(launch.kernel, launch.choice).into()),
    });
    let constants: Vec<_> =
        launch.kernel.overrides.iter().zip(&launch.overrides).map(|(&name, &value)| (name, f64::from(value))).collect();
    let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: Some("indirect"),
        layout: None,
        module: &module,
        entry_point: Some("main"),
        compilation_options: wgpu::PipelineCompilationOptions { constants: &constants, ..Default::default() },
        cache: None,
    });
    let entries: Vec<_> = (0..)
        .zip([&x, &y, &params])
        .map(|(binding, buffer)| wgpu::BindGroupEntry { binding, resource: buffer.as_entire_binding() })
        .collect();
    let layout = pipeline.get_bind_group_layout(0);
    let group = device.create_bind_group(&wgpu::BindGroupDescriptor {
        label: Some("indirect"),
        layout: &layout,
        entries: &entries,
    });
    let run = || {
        let start = Instant::now();
        let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        pass.set_pipeline(&pipeline);
        pass.set_bind_group(0, &group, &[]);
        for _ in 0..LAUNCHES {
            pass.dispatch_workgroups_indirect(&groups, 0);
        }
        drop(pass);
        queue.submit([encoder.finish()]);
        device.poll(wgpu::PollType::wait_indefinitely()).ok()?;
        Some(start.elapsed().as_secs_f64() / f64::from(LAUNCHES))
    };
    run()?;
    (0..repetitions.max(1) * 3).map(|_| run()).collect()
}
