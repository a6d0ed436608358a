//! The application's side of the device: a window's surface, and egui drawn on it with wgpu.

use std::path::Path;
use std::sync::Arc;

use egui_wgpu::{Renderer, RendererOptions, ScreenDescriptor};
use ruminate::{Device, wgpu};
use winit::event_loop::OwnedDisplayHandle;
use winit::window::Window;

use crate::Failure;

/// Color of egui's dark panels.
const BACKGROUND: wgpu::Color = wgpu::Color { r: 0.106, g: 0.106, b: 0.106, a: 1.0 };

/// Output of egui for one frame.
pub(crate) struct Picture {
    pub(crate) textures: egui::TexturesDelta,
    pub(crate) shapes: Vec<egui::ClippedPrimitive>,
    pub(crate) pixels_per_point: f32,
}

/// A surface and the device that draws on it.
pub(crate) struct Canvas {
    pub(crate) name: String,
    pub(crate) device: wgpu::Device,
    pub(crate) queue: wgpu::Queue,
    surface: wgpu::Surface<'static>,
    config: wgpu::SurfaceConfiguration,
    renderer: Renderer,
}

impl Canvas {
    /// Creates a device for both drawing and generating: with the features and limits that the engine requests besides the application's own.
    pub(crate) fn new(window: &Arc<Window>, display: OwnedDisplayHandle) -> Result<Self, Failure> {
        let instance =
            wgpu::Instance::new(wgpu::InstanceDescriptor::new_with_display_handle_from_env(Box::new(display)));
        let surface = instance.create_surface(Arc::clone(window))?;
        let adapter = pollster::block_on(instance.request_adapter(&wgpu::RequestAdapterOptions {
            power_preference: wgpu::PowerPreference::HighPerformance,
            compatible_surface: Some(&surface),
            ..wgpu::RequestAdapterOptions::default()
        }))?;
        let own_features = wgpu::Features::empty();
        let (device, queue) = pollster::block_on(adapter.request_device(&wgpu::DeviceDescriptor {
            label: Some("window"),
            required_features: own_features | Device::required_features(&adapter),
            // These are all limits of the adapter, which includes the window's needs.
            required_limits: Device::required_limits(&adapter),
            ..wgpu::DeviceDescriptor::default()
        }))?;

        let size = window.inner_size();
        let mut config = surface
            .get_default_config(&adapter, size.width.max(1), size.height.max(1))
            .ok_or("the adapter cannot draw on this window")?;
        // egui blends in gamma space, so it needs a format that is not sRGB.
        let formats = surface.get_capabilities(&adapter).formats;
        let plain = [wgpu::TextureFormat::Bgra8Unorm, wgpu::TextureFormat::Rgba8Unorm];
        config.format = plain.into_iter().find(|format| formats.contains(format)).unwrap_or(config.format);
        // The clock paces frames, so that frame times show every delay.
        config.present_mode = wgpu::PresentMode::AutoNoVsync;
        surface.configure(&device, &config);
        let renderer =
            Renderer::new(&device, config.format, RendererOptions { dithering: false, ..RendererOptions::default() });
        Ok(Self { name: adapter.get_info().name, device, queue, surface, config, renderer })
    }

    pub(crate) fn resize(&mut self, width: u32, height: u32) {
        if width > 0 && height > 0 {
            (self.config.width, self.config.height) = (width, height);
            self.surface.configure(&self.device, &self.config);
        }
    }

    /// Draws a picture and shows it.
    pub(crate) fn show(&mut self, window: &Window, picture: &Picture) -> Result<(), Failure> {
        use wgpu::CurrentSurfaceTexture as Current;
        self.take_textures(&picture.textures);
        let frame = match self.surface.get_current_texture() {
            Current::Success(frame) | Current::Suboptimal(frame) => Some(frame),
            Current::Outdated => {
                self.surface.configure(&self.device, &self.config);
                None
            }
            Current::Timeout | Current::Occluded => None,
            other => return Err(format!("the window's surface is lost: {other:?}").into()),
        };
        if let Some(frame) = frame {
            self.draw(&frame.texture, picture);
            window.pre_present_notify();
            self.queue.present(frame);
        }
        picture.textures.free.iter().for_each(|id| self.renderer.free_texture(id));
        Ok(())
    }

    /// Saves a picture as PNG. Its textures must be those of the last one shown.
    pub(crate) fn save(&mut self, picture: &Picture, path: &Path) -> Result<(), Failure> {
        let (width, height) = (self.config.width, self.config.height);
        let texture = self.device.create_texture(&wgpu::TextureDescriptor {
            label: Some("screenshot"),
            size: wgpu::Extent3d { width, height, depth_or_array_layers: 1 },
            mip_level_count: 1,
            sample_count: 1,
            dimension: wgpu::TextureDimension::D2,
            format: self.config.format,
            usage: wgpu::TextureUsages::RENDER_ATTACHMENT | wgpu::TextureUsages::COPY_SRC,
            view_formats: &[],
        });
        self.draw(&texture, picture);
        let row = (width * 4).next_multiple_of(wgpu::COPY_BYTES_PER_ROW_ALIGNMENT);
        let buffer = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("screenshot"),
            size: u64::from(row) * u64::from(height),
            usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let layout = wgpu::TexelCopyBufferLayout { offset: 0, bytes_per_row: Some(row), rows_per_image: None };
        let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        encoder.copy_texture_to_buffer(
            texture.as_image_copy(),
            wgpu::TexelCopyBufferInfo { buffer: &buffer, layout },
            texture.size(),
        );
        self.queue.submit([encoder.finish()]);
        buffer.map_async(wgpu::MapMode::Read, .., |_| {});
        self.device.poll(wgpu::PollType::wait_indefinitely())?;
        let swapped = self.config.format == wgpu::TextureFormat::Bgra8Unorm;
        let pixels: Vec<u8> = buffer
            .get_mapped_range(..)?
            .chunks_exact(row as usize)
            .flat_map(|row| row[..width as usize * 4].chunks_exact(4))
            .flat_map(|pixel| if swapped { [pixel[2], pixel[1], pixel[0]] } else { [pixel[0], pixel[1], pixel[2]] })
            .collect();
        let mut png = png::Encoder::new(std::io::BufWriter::new(std::fs::File::create(path)?), width, height);
        png.set_color(png::ColorType::Rgb);
        png.set_compression(png::Compression::High);
        png.write_header()?.write_image_data(&pixels)?;
        Ok(())
    }

    fn take_textures(&mut self, textures: &egui::TexturesDelta) {
        for (id, deltas) in &textures.set {
            deltas.iter().for_each(|delta| self.renderer.update_texture(&self.device, &self.queue, *id, delta));
        }
    }

    fn draw(&mut self, texture: &wgpu::Texture, picture: &Picture) {
        let Self { device, queue, renderer, config, .. } = self;
        let screen = ScreenDescriptor {
            size_in_pixels: [config.width, config.height],
            pixels_per_point: picture.pixels_per_point,
        };
        let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("frame") });
        let mut commands = renderer.update_buffers(device, queue, &mut encoder, &picture.shapes, &screen);
        let view = texture.create_view(&wgpu::TextureViewDescriptor::default());
        let pass = encoder.begin_render_pass(&wgpu::RenderPassDescriptor {
            label: Some("frame"),
            color_attachments: &[Some(wgpu::RenderPassColorAttachment {
                view: &view,
                depth_slice: None,
                resolve_target: None,
                ops: wgpu::Operations { load: wgpu::LoadOp::Clear(BACKGROUND), store: wgpu::StoreOp::Store },
            })],
            ..wgpu::RenderPassDescriptor::default()
        });
        renderer.render(&mut pass.forget_lifetime(), &picture.shapes, &screen);
        commands.push(encoder.finish());
        queue.submit(commands);
    }
}
