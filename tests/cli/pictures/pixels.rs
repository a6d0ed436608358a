//! Statistics of a picture's pixels.

use std::collections::HashMap;
use std::io::Cursor;

use anyhow::{Context, Result, ensure};

/// Color counts of a PNG file.
pub(crate) struct Pixels {
    pub(crate) width: u32,
    pub(crate) height: u32,
    colors: HashMap<[u8; 3], usize>,
}

impl Pixels {
    /// Decodes a file.
    pub(crate) fn of(png: &[u8]) -> Result<Self> {
        let mut reader = png::Decoder::new(Cursor::new(png)).read_info()?;
        let mut bytes = vec![0; reader.output_buffer_size().context("a huge picture")?];
        let info = reader.next_frame(&mut bytes)?;
        let samples = info.color_type.samples();
        ensure!(samples >= 3 && info.bit_depth == png::BitDepth::Eight, "{:?}", info.color_type);
        let mut colors = HashMap::new();
        for pixel in bytes[..info.buffer_size()].chunks(samples) {
            *colors.entry([pixel[0], pixel[1], pixel[2]]).or_insert(0) += 1;
        }
        Ok(Self { width: info.width, height: info.height, colors })
    }

    /// Number of colors with at least 20 pixels.
    pub(crate) fn colors(&self) -> usize {
        self.colors.values().filter(|&&count| count >= 20).count()
    }

    /// Most common color: the background.
    pub(crate) fn paper(&self) -> [u8; 3] {
        self.colors.iter().max_by_key(|(_, count)| **count).map_or([0; 3], |(color, _)| *color)
    }

    /// Fraction of the picture that is not background.
    pub(crate) fn covered(&self) -> f64 {
        let all: usize = self.colors.values().sum();
        1.0 - self.colors.get(&self.paper()).copied().unwrap_or(0) as f64 / all as f64
    }
}
