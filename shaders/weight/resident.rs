//! A matrix in device memory: the place of each of its values, and ways to write and read them.

use half::f16;

use super::{Dtype, Form, Order, Stored, StoredRows, blocks};
use crate::Place;

/// A matrix, or consecutive rows of one, in device memory.
///
/// Values in blocks are packed four (q8) or eight (q4) per word, the first in the lowest bits; signed ones are stored plus 128 or 8. All values come first,
/// then the blocks' factors in f16, stored 4096 times too large because f16 has few small numbers. `q4_1` has a factor and a minimum for each block, in one
/// word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Resident {
    /// Form in memory.
    pub form: Form,
    /// Number of rows.
    pub rows: u32,
    /// Chunks of eight values per row.
    pub chunks: u32,
}

/// Bytes that a lane loads at once.
const UNIT: u64 = 16;

/// Factors are stored multiplied by this.
pub(crate) const FACTOR: f32 = 4096.0;

impl Resident {
    /// Size in bytes.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        let factors = 2 * self.form.dtype.factors() as u64;
        if factors == 0 {
            return self.values();
        }
        self.scales() as u64 * UNIT + (self.padded_rows() * self.block_pairs() * 2 * factors).next_multiple_of(UNIT)
    }

    /// Size of its rows in f32, in bytes.
    #[must_use]
    pub const fn f32_bytes(&self) -> u64 {
        Dtype::F32.matrix_bytes(self.rows, self.chunks)
    }

    /// Bytes that a device allocates for it: textures have whole lines.
    #[must_use]
    pub const fn memory(&self) -> u64 {
        let place = if self.form.in_texture() { Place::Texture } else { Place::Buffer };
        place.memory(self.bytes())
    }

    /// Start of the factors of its blocks, in units of 16 bytes.
    #[must_use]
    pub const fn scales(&self) -> u32 {
        (self.values() / UNIT) as u32
    }

    /// Size of its values without the factors of blocks, in bytes.
    const fn values(&self) -> u64 {
        let blocks = blocks(self.chunks) as u64;
        match (self.form.dtype, self.form.order) {
            (dtype, Order::Rows) if !dtype.in_blocks() => dtype.matrix_bytes(self.rows, self.chunks),
            (dtype, _) => self.padded_rows() * blocks * dtype.units() as u64 * UNIT,
        }
    }

    const fn padded_rows(&self) -> u64 {
        self.rows.next_multiple_of(self.form.group()) as u64
    }

    const fn block_pairs(&self) -> u64 {
        blocks(self.chunks).div_ceil(2) as u64
    }

    /// Index of unit `unit`, 16 bytes, of a row that has `units` units.
    pub(super) const fn unit(&self, units: u32, row: u32, unit: u32) -> u64 {
        let (units, unit) = (units as u64, unit as u64);
        match self.form.order {
            Order::Rows => row as u64 * units + unit,
            Order::Lanes(lanes) => {
                let group = self.form.group();
                ((row / group) as u64 * units + unit) * group as u64 + (row % 4 * lanes + row / 4 % lanes) as u64
            }
        }
    }

    /// Index of the factor of a block of a row, in halves (`q8`, `q4`) or words (`q4_1`) from [`Self::scales`] on.
    pub(super) const fn scale(&self, row: u32, block: u32) -> u64 {
        let pairs = self.block_pairs();
        match (self.form.order, self.form.dtype) {
            (Order::Rows, _) => row as u64 * 2 * pairs + block as u64,
            (Order::Lanes(lanes), Dtype::Q4Min) => {
                let group = (row / self.form.group()) as u64 * blocks(self.chunks) as u64 + block as u64;
                (group * lanes as u64 + (row / 4 % lanes) as u64) * 4 + row as u64 % 4
            }
            (Order::Lanes(lanes), _) => {
                let group = (row / self.form.group()) as u64 * pairs + block as u64 / 2;
                (group * lanes as u64 + (row / 4 % lanes) as u64) * 8 + block as u64 % 2 * 4 + row as u64 % 4
            }
        }
    }

    /// Decodes a row from its first value on, as many values as fit into `values`.
    ///
    /// # Panics
    /// If the row does not exist.
    pub fn decode_row(&self, words: &[u32], row: u32, values: &mut [f32]) {
        let (dtype, blocks) = (self.form.dtype, blocks(self.chunks));
        let from = |units: u32, unit: u32| &words[self.unit(units, row, unit) as usize * 4..];
        let halves: &[u16] = bytemuck::cast_slice(&words[self.scales() as usize * 4..]);
        let half = |place: u64| f16::from_bits(halves[place as usize]).to_f32() / FACTOR;
        match dtype {
            Dtype::F32 | Dtype::F16 | Dtype::Bf16 => {
                let per_unit = (UNIT / dtype.bytes()) as usize;
                let padded = if self.form.in_texture() { blocks * 4 } else { self.chunks };
                let units = padded * 8 / per_unit as u32;
                // Units of a row are contiguous in row order.
                let together = if self.form.order == Order::Rows { values.len().max(1) } else { per_unit };
                for (unit, values) in (0..).zip(values.chunks_mut(together)) {
                    dtype.decode_bytes(bytemuck::cast_slice(from(units, unit)), values);
                }
            }
            Dtype::Q8 => {
                for (block, values) in (0..).zip(values.chunks_mut(32)) {
                    let factor = half(self.scale(row, block));
                    for (unit, values) in (2 * block..).zip(values.chunks_mut(16)) {
                        let numbers: &[u8] = bytemuck::cast_slice(from(2 * blocks, unit));
                        values.iter_mut().zip(numbers).for_each(|(v, &q)| *v = (f32::from(q) - 128.0) * factor);
                    }
                }
            }
            Dtype::Q4 | Dtype::Q4Min => {
                for (block, values) in (0..).zip(values.chunks_mut(32)) {
                    let scale = self.scale(row, block);
                    let numbers =
                        from(blocks, block).iter().flat_map(|word| (0..8).map(move |i| word >> (4 * i) & 0xf));
                    let numbers = values.iter_mut().zip(numbers.map(|q| q as f32));
                    if dtype == Dtype::Q4 {
                        let factor = half(scale);
                        numbers.for_each(|(v, q)| *v = (q - 8.0) * factor);
                    } else {
                        let (factor, minimum) = (half(2 * scale), half(2 * scale + 1));
                        numbers.for_each(|(v, q)| *v = q * factor + minimum);
                    }
                }
            }
        }
    }

    /// Bytes of the rows as transferred to the device: in the form, or in f32 for dtypes in blocks, which the device rounds itself.
    #[must_use]
    pub const fn encoded_bytes(&self) -> u64 {
        if self.form.dtype.in_blocks() { self.f32_bytes() } else { self.bytes() }
    }

    /// Copies a row from [`Dtype::encode_row`] to its place in a buffer of [`Self::encoded_bytes`].
    ///
    /// # Panics
    /// If the row is longer than the space for it.
    pub fn put_encoded(&self, words: &mut [u32], row: u32, bytes: &[u8]) {
        if self.form.dtype.in_blocks() {
            let start = row as usize * bytes.len();
            bytemuck::cast_slice_mut(words)[start..start + bytes.len()].copy_from_slice(bytes);
        } else {
            self.put_bytes(words, row, bytes);
        }
    }

    /// Rounds rows of whole chunks to the form and stores them from row `first` on. After the last row, zeros fill up its group.
    ///
    /// # Panics
    /// If there are more rows than space for them.
    pub fn put(&self, words: &mut [u32], first: u32, values: &[f32]) {
        let width = self.chunks as usize * 8;
        if self.form.dtype.in_blocks() {
            let stored = Stored { dtype: self.form.dtype, chunks: self.chunks };
            let mut rows = StoredRows::default();
            values.chunks_exact(width).for_each(|row| stored.round(row, &mut rows));
            self.take(words, first, &rows);
        } else {
            let mut bytes = Vec::new();
            values.chunks_exact(width).for_each(|row| self.form.dtype.encode_row(row, &mut bytes));
            self.put_bytes(words, first, &bytes);
        }
    }

    fn put_bytes(&self, words: &mut [u32], first: u32, rows: &[u8]) {
        let row_bytes = self.form.dtype.matrix_bytes(1, self.chunks) as usize;
        let padded = if self.form.in_texture() { blocks(self.chunks) * 4 } else { self.chunks };
        let units = (self.form.dtype.matrix_bytes(1, padded) / UNIT) as u32;
        let out: &mut [u8] = bytemuck::cast_slice_mut(words);
        for (row, bytes) in (first..).zip(rows.chunks_exact(row_bytes)) {
            if self.form.order == Order::Rows {
                let at = row as usize * row_bytes;
                out[at..at + row_bytes].copy_from_slice(bytes);
                continue;
            }
            // Units of a row are equally far apart.
            let [first, next] = [0, 1].map(|unit| (self.unit(units, row, unit) * UNIT) as usize);
            let places = (first..).step_by(next - first);
            for (at, bytes) in places.zip(bytes.as_chunks::<{ UNIT as usize }>().0) {
                out[at..at + UNIT as usize].copy_from_slice(bytes);
            }
        }
    }
}

/// Rounds a block. Returns its factor and minimum as stored, and its numbers.
#[expect(clippy::cast_sign_loss, reason = "numbers are clamped to a range from zero on")]
pub(crate) fn round_block(dtype: Dtype, values: &[f32]) -> (f16, f16, [u32; 32]) {
    // A block at the end of a row is padded with zeros.
    let mut block = [0.0; 32];
    block[..values.len()].copy_from_slice(values);
    let (values, mut numbers) = (block, [0; 32]);
    let largest = values.iter().fold(0_f32, |most, v| most.max(v.abs()));
    let (factor, minimum, shift, range) = match dtype {
        Dtype::Q4Min => {
            let low = values.iter().copied().fold(f32::INFINITY, f32::min);
            let high = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            (f16::from_f32((high - low) * (FACTOR / 15.0)), f16::from_f32(low * FACTOR), 0.0, 0.0..=15.0)
        }
        Dtype::Q4 => {
            // The value of largest magnitude becomes -8, as in ggml: of the 16 numbers, one more is below zero than above.
            let signed = values.iter().copied().find(|v| v.abs() == largest).unwrap_or(0.0);
            (f16::from_f32(signed * (FACTOR / -8.0)), f16::ZERO, 8.0, 0.0..=15.0)
        }
        // Keys and values may have any magnitude; weights are checked before.
        _ => (f16::from_f32((largest * (FACTOR / 127.0)).min(65_504.0)), f16::ZERO, 128.0, 1.0..=255.0),
    };
    let inverse = if factor.to_f32() == 0.0 { 0.0 } else { FACTOR / factor.to_f32() };
    let low = minimum.to_f32() / FACTOR;
    for (number, value) in numbers.iter_mut().zip(values) {
        // Rounding comes before the shift, so that no device can fuse the product and the sum.
        *number = (((value - low) * inverse).round_ties_even() + shift).clamp(*range.start(), *range.end()) as u32;
    }
    (factor, minimum, numbers)
}
