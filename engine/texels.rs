//! Textures as memory: some devices read weights from them faster than from buffers. A texture is used as one array of 16-byte texels, in lines of
//! [`TEXTURE_WIDTH`].

use std::ops::Range;

use ruminate_shaders::TEXTURE_WIDTH;

use crate::counters::Tally;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::gpu::{CHUNK, Gpu};
use crate::readback;

/// Bytes of a texel.
pub(crate) const TEXEL: u64 = 16;

/// Bytes from line to line.
const LINE: u64 = TEXTURE_WIDTH as u64 * TEXEL;

/// Format of every texture.
const FORMAT: wgpu::TextureFormat = wgpu::TextureFormat::Rgba32Uint;

/// A texture with the view that kernels bind.
#[derive(Debug)]
pub(crate) struct Texels {
    texture: wgpu::Texture,
    pub(crate) view: wgpu::TextureView,
}

impl Texels {
    /// Creates a texture of at least `bytes`, filled with zeros.
    pub(crate) fn new(gpu: &Gpu, label: &str, bytes: u64) -> Result<Self> {
        let lines = bytes.div_ceil(LINE);
        let limit = gpu.limits.max_texture_dimension_2d;
        let fits = u32::try_from(lines).ok().filter(|&lines| lines <= limit && TEXTURE_WIDTH <= limit);
        let Some(height) = fits else {
            return Err(Error::TooLarge { buffer: label.to_owned(), bytes, limit: most(limit) });
        };
        let descriptor = wgpu::TextureDescriptor {
            label: Some(label),
            size: wgpu::Extent3d { width: TEXTURE_WIDTH, height, depth_or_array_layers: 1 },
            mip_level_count: 1,
            sample_count: 1,
            dimension: wgpu::TextureDimension::D2,
            format: FORMAT,
            usage: wgpu::TextureUsages::STORAGE_BINDING | wgpu::TextureUsages::COPY_SRC | wgpu::TextureUsages::COPY_DST,
            view_formats: &[],
        };
        gpu.guard(
            || format!("texture {label}"),
            || {
                let texture = gpu.device.create_texture(&descriptor);
                let view = texture.create_view(&wgpu::TextureViewDescriptor::default());
                Self { texture, view }
            },
        )
    }

    /// Bytes that the device allocates.
    pub(crate) fn bytes(&self) -> u64 {
        u64::from(self.texture.height()) * LINE
    }

    /// Writes whole texels at an offset in bytes, staged like writes to buffers.
    pub(crate) fn write(&self, gpu: &Gpu, tally: &Tally, offset: u64, data: &[u8]) -> Result<()> {
        for (start, piece) in (0..).step_by(CHUNK).zip(data.chunks(CHUNK)) {
            gpu.staged(tally, piece.len(), || self.write_piece(gpu, offset + start, piece))?;
        }
        Ok(())
    }

    /// Writes the rest of a line, whole lines, and the beginning of a line.
    fn write_piece(&self, gpu: &Gpu, mut offset: u64, mut data: &[u8]) {
        while !data.is_empty() {
            let (x, left) = (offset % LINE, data.len() as u64);
            let bytes = if x == 0 && left >= LINE { left / LINE * LINE } else { left.min(LINE - x) };
            let (now, later) = data.split_at(usize::try_from(bytes).unwrap_or(data.len()));
            let layout =
                wgpu::TexelCopyBufferLayout { offset: 0, bytes_per_row: Some(LINE as u32), rows_per_image: None };
            let size = wgpu::Extent3d {
                width: (bytes.min(LINE) / TEXEL) as u32,
                height: bytes.div_ceil(LINE) as u32,
                depth_or_array_layers: 1,
            };
            gpu.queue.write_texture(self.at((x / TEXEL) as u32, (offset / LINE) as u32), now, layout, size);
            (data, offset) = (later, offset + bytes);
        }
    }

    /// Reads a range of bytes, a few lines at a time.
    pub(crate) fn read(&self, device: &Device, gpu: &Gpu, range: Range<u64>) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let (mut line, end) = (range.start / LINE, range.end.div_ceil(LINE));
        while line < end {
            let lines = (end - line).min(CHUNK as u64 / LINE);
            let chunk = readback::fetch(device, gpu, lines * LINE, |encoder, staging| {
                let layout =
                    wgpu::TexelCopyBufferLayout { offset: 0, bytes_per_row: Some(LINE as u32), rows_per_image: None };
                let size = wgpu::Extent3d { width: TEXTURE_WIDTH, height: lines as u32, depth_or_array_layers: 1 };
                let target = wgpu::TexelCopyBufferInfo { buffer: staging, layout };
                encoder.copy_texture_to_buffer(self.at(0, line as u32), target, size);
            })?;
            bytes.extend_from_slice(&chunk);
            line += lines;
        }
        let start = usize::try_from(range.start % LINE).unwrap_or(0);
        let length = usize::try_from(range.end - range.start).unwrap_or(0);
        bytes.drain(..start);
        bytes.truncate(length);
        Ok(bytes)
    }

    fn at(&self, x: u32, y: u32) -> wgpu::TexelCopyTextureInfo<'_> {
        wgpu::TexelCopyTextureInfo {
            texture: &self.texture,
            mip_level: 0,
            origin: wgpu::Origin3d { x, y, z: 0 },
            aspect: wgpu::TextureAspect::All,
        }
    }
}

/// Maximum bytes of one texture on a device with this limit of a texture's height.
pub(crate) fn most(limit: u32) -> u64 {
    u64::from(limit) * LINE
}

/// Binding type of a texture.
pub(crate) fn binding(written: bool) -> wgpu::BindingType {
    let access = if written { wgpu::StorageTextureAccess::WriteOnly } else { wgpu::StorageTextureAccess::ReadOnly };
    wgpu::BindingType::StorageTexture { access, format: FORMAT, view_dimension: wgpu::TextureViewDimension::D2 }
}
