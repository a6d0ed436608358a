//! Views of tensors whose data is read from the file on demand.

use ruminate_shaders::Dtype;

use super::Quantized;
use crate::source::Bytes;

/// A tensor whose data can be read.
#[derive(Clone, Debug)]
pub struct TensorView<'a> {
    /// Dtype in the file.
    pub dtype: Dtype,
    /// Shape.
    pub shape: Vec<usize>,
    pub(super) file: &'a Bytes,
    pub(super) start: usize,
    pub(super) bytes: usize,
}

/// A matrix stored in blocks: numbers, scales, and minima for dtypes that have them.
pub(crate) struct BlocksView<'a> {
    pub(crate) matrix: Quantized,
    /// Name of the file that holds it.
    pub(crate) name: &'a str,
    pub(super) file: &'a Bytes,
    pub(super) starts: &'a [usize],
}

impl BlocksView<'_> {
    /// Reads bytes of one part into `out`, from `offset` in that part.
    ///
    /// # Errors
    /// I/O errors of the file.
    pub(crate) fn read_at(&self, part: usize, offset: usize, out: &mut [u8]) -> std::io::Result<()> {
        self.file.read_at(self.starts[part] + offset, out)
    }
}

impl TensorView<'_> {
    /// Fills `out` with little-endian bytes of the data, from `offset` on.
    ///
    /// # Errors
    /// I/O errors of the file.
    pub fn read_at(&self, offset: usize, out: &mut [u8]) -> std::io::Result<()> {
        self.file.read_at(self.start + offset, out)
    }

    /// All bytes of the data; for a matrix in blocks, only its numbers.
    ///
    /// # Errors
    /// I/O errors of the file.
    pub fn bytes(&self) -> std::io::Result<Vec<u8>> {
        let mut bytes = vec![0; self.bytes];
        self.read_at(0, &mut bytes)?;
        Ok(bytes)
    }

    /// Decodes values into `out`, from value `start` on.
    ///
    /// # Errors
    /// I/O errors of the file.
    ///
    /// # Panics
    /// If the tensor has fewer than `start + out.len()` values.
    pub fn decode(&self, start: usize, out: &mut [f32]) -> std::io::Result<()> {
        let size = self.dtype.bytes() as usize;
        assert!((start + out.len()) * size <= self.bytes, "the tensor has fewer values");
        let mut raw = vec![0; out.len() * size];
        self.read_at(start * size, &mut raw)?;
        self.dtype.decode_bytes(&raw, out);
        Ok(())
    }
}
