//! Rows in blocks as stored in files, and their conversion to a device's layout.

use half::f16;

use super::resident::round_block;
use super::{Dtype, Resident, blocks};

/// Layout of rows in blocks in a file: numbers, factors and minima are separate, each row after row, in an order that no device uses.
///
/// A number of `q8` is a signed byte; two numbers of `q4` or `q4_1` share a byte, the first in its lower half, and those of `q4` are stored plus 8. Factors and
/// minima are f16, stored 4096 times too large. The numbers are those of [`Resident`], bit for bit: only their places differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Dtype, one that is in blocks.
    pub dtype: Dtype,
    /// Chunks of eight values per row, with each half padded on its own.
    pub chunks: u32,
}

/// Rows of a [`Stored`] layout.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredRows {
    /// Numbers `[rows, Stored::number_bytes()]`.
    pub numbers: Vec<u8>,
    /// Factors `[rows, Stored::blocks()]` in f16.
    pub factors: Vec<u8>,
    /// Minima `[rows, Stored::blocks()]` in f16; empty except in `q4_1`.
    pub minima: Vec<u8>,
}

impl Stored {
    /// Blocks of a row.
    #[must_use]
    pub const fn blocks(&self) -> u32 {
        blocks(self.chunks)
    }

    /// Bytes of a row's numbers.
    #[must_use]
    pub const fn number_bytes(&self) -> usize {
        self.blocks() as usize * if matches!(self.dtype, Dtype::Q8) { 32 } else { 16 }
    }

    /// Bytes of a row's factors, and of its minima.
    #[must_use]
    pub const fn factor_bytes(&self) -> [usize; 2] {
        let bytes = self.blocks() as usize * 2;
        [bytes, if matches!(self.dtype, Dtype::Q4Min) { bytes } else { 0 }]
    }

    /// Rounds a row of whole chunks and appends it to `rows`.
    pub fn round(&self, values: &[f32], rows: &mut StoredRows) {
        for values in values.chunks(32) {
            let (factor, minimum, numbers) = round_block(self.dtype, values);
            if self.dtype == Dtype::Q8 {
                rows.numbers.extend(numbers.map(|number| number as u8 ^ SIGN));
            } else {
                let pairs = numbers.as_chunks::<2>().0;
                rows.numbers.extend(pairs.iter().map(|[low, high]| (low | high << 4) as u8));
            }
            rows.factors.extend(factor.to_le_bytes());
            if self.dtype == Dtype::Q4Min {
                rows.minima.extend(minimum.to_le_bytes());
            }
        }
    }
}

/// Bit that turns a signed byte into one that is offset by 128, and back.
const SIGN: u8 = 0x80;

impl StoredRows {
    /// The first block, counted over all rows, whose factor or minimum is not finite, and that number.
    #[must_use]
    pub fn damaged(&self) -> Option<(usize, f32)> {
        let halves = |bytes: &[u8]| {
            let halves = bytes.as_chunks::<2>().0.iter().map(|&half| f16::from_le_bytes(half));
            halves.enumerate().find(|(_, half)| !half.is_finite()).map(|(at, half)| (at, half.to_f32()))
        };
        halves(&self.factors).or_else(|| halves(&self.minima))
    }
}

impl Resident {
    /// Copies rows from the layout of files to their places, from row `first` on. After the last row, zeros fill up its group.
    ///
    /// # Panics
    /// If there are more rows than space for them.
    pub fn take(&self, words: &mut [u32], first: u32, rows: &StoredRows) {
        let stored = Stored { dtype: self.form.dtype, chunks: self.chunks };
        let [factors, minima] = stored.factor_bytes();
        let mut last = first;
        for (i, numbers) in rows.numbers.chunks_exact(stored.number_bytes()).enumerate() {
            let minima = rows.minima.get(i * minima..(i + 1) * minima).unwrap_or_default();
            self.place(words, last, numbers, &rows.factors[i * factors..(i + 1) * factors], minima);
            last += 1;
        }
        if last == self.rows {
            let mut zeros = StoredRows::default();
            stored.round(&vec![0.0; self.chunks as usize * 8], &mut zeros);
            let padded = last.next_multiple_of(self.form.group());
            (last..padded).for_each(|row| self.place(words, row, &zeros.numbers, &zeros.factors, &zeros.minima));
        }
    }

    /// Starts of the numbers and of the factors of the rows from `row` on, in bytes. `row` is the first of a group, or one past the last row.
    #[must_use]
    pub const fn places(&self, row: u32) -> [u64; 2] {
        let wide = if matches!(self.form.dtype, Dtype::Q4Min) { 4 } else { 2 };
        [self.unit(self.block_units(), row, 0) * 16, self.scales() as u64 * 16 + self.scale(row, 0) * wide]
    }

    /// Units of 16 bytes that hold the numbers of a row.
    const fn block_units(&self) -> u32 {
        blocks(self.chunks) * if matches!(self.form.dtype, Dtype::Q8) { 2 } else { 1 }
    }

    fn place(&self, words: &mut [u32], row: u32, numbers: &[u8], factors: &[u8], minima: &[u8]) {
        let out: &mut [u8] = bytemuck::cast_slice_mut(words);
        let sign = if self.form.dtype == Dtype::Q8 { SIGN } else { 0 };
        for (unit, numbers) in (0..).zip(numbers.chunks_exact(16)) {
            let at = self.unit(self.block_units(), row, unit) as usize * 16;
            out[at..at + 16].iter_mut().zip(numbers).for_each(|(out, number)| *out = number ^ sign);
        }
        let halves: &mut [u16] = bytemuck::cast_slice_mut(&mut out[self.scales() as usize * 16..]);
        let bits = |bytes: &[u8], block: usize| u16::from_le_bytes([bytes[2 * block], bytes[2 * block + 1]]);
        for block in 0..blocks(self.chunks) {
            let (scale, at) = (self.scale(row, block) as usize, block as usize);
            if self.form.dtype == Dtype::Q4Min {
                halves[2 * scale] = bits(factors, at);
                halves[2 * scale + 1] = bits(minima, at);
            } else {
                halves[scale] = bits(factors, at);
            }
        }
    }
}
