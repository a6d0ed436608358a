//! Data of tensors, read from their files where it is needed.

use ruminate_shaders::Dtype;

use super::Quantised;
use crate::source::Bytes;

/// A tensor's data.
#[derive(Clone, Debug)]
pub struct TensorView<'a> {
    /// How it is stored.
    pub dtype: Dtype,
    /// Its shape.
    pub shape: Vec<usize>,
    pub(super) file: &'a Bytes,
    pub(super) start: usize,
    pub(super) bytes: usize,
}

/// A matrix in blocks: numbers, scales, and minima if it has any.
pub(crate) struct BlocksView<'a> {
    pub(crate) matrix: Quantised,
    /// Name of the file that holds it.
    pub(crate) name: &'a str,
    pub(super) file: &'a Bytes,
    pub(super) starts: &'a [usize],
}

impl BlocksView<'_> {
    /// Reads bytes of one of the parts into `out`.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn read_at(&self, part: usize, offset: usize, out: &mut [u8]) -> std::io::Result<()> {
        self.file.read_at(self.starts[part] + offset, out)
    }
}

impl TensorView<'_> {
    /// Reads bytes of the data, little-endian, from an offset on until `out` is full.
    ///
    /// # Errors
    /// The system's.
    pub fn read_at(&self, offset: usize, out: &mut [u8]) -> std::io::Result<()> {
        self.file.read_at(self.start + offset, out)
    }

    /// All bytes of the data. Of a matrix in blocks, these are the numbers without their factors.
    ///
    /// # Errors
    /// The system's.
    pub fn bytes(&self) -> std::io::Result<Vec<u8>> {
        let mut bytes = vec![0; self.bytes];
        self.read_at(0, &mut bytes)?;
        Ok(bytes)
    }

    /// Decodes the values from `start` on into `out`.
    ///
    /// # Errors
    /// The system's.
    ///
    /// # Panics
    /// If the tensor has fewer values.
    pub fn decode(&self, start: usize, out: &mut [f32]) -> std::io::Result<()> {
        let size = self.dtype.bytes() as usize;
        assert!((start + out.len()) * size <= self.bytes, "the tensor has fewer values");
        let mut raw = vec![0; out.len() * size];
        self.read_at(start * size, &mut raw)?;
        self.dtype.decode_bytes(&raw, out);
        Ok(())
    }
}
