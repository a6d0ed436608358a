//! Rows of a tensor to write: read or drawn, checked, rounded.

use std::ops::Range;

use ruminate_shaders::weight::StoredRows;

use super::layout::{Form, Item};
use crate::arch::{BLOCK, Weights, check};
use crate::error::{Error, Result};
use crate::synthetic::Values;

/// Source and form of a tensor's rows.
pub(super) struct Maker<'a> {
    pub(super) weights: Weights<'a>,
    pub(super) item: &'a Item,
}

/// Function that writes the values of a row into a slice.
type Reader<'a> = Box<dyn Fn(u32, &mut [f32]) + 'a>;

/// Blocks of rows of a tensor, each processed by a thread at a time.
pub(super) fn jobs(item: &Item) -> Vec<Range<u32>> {
    let at_once = (BLOCK / (item.width() * 4)).max(1);
    let starts = (0..item.rows()).step_by(at_once);
    starts.map(|start| start..item.rows().min(start.saturating_add(at_once as u32))).collect()
}

impl Maker<'_> {
    /// Makes the bytes of rows for each tensor that they are written to. `raw` is a buffer for reading.
    ///
    /// # Errors
    /// [`Error::File`] if a file cannot be read, [`Error::Weight`] if the dtype cannot represent a value.
    pub(super) fn make(&self, raw: &mut Vec<u8>, rows: Range<u32>) -> Result<Vec<Vec<u8>>> {
        let Item { name, form, .. } = self.item;
        let width = self.item.width();
        let mut values = vec![0.0; width];
        let mut out = StoredRows::default();
        let mut padded = Vec::new();
        let fill = self.reader(raw, rows.clone())?;
        for row in rows.clone() {
            fill(row, &mut values);
            match *form {
                Form::Blocks(matrix) => {
                    check(name, matrix.dtype, row, &values)?;
                    padded.clear();
                    for half in values.chunks(width / matrix.halves as usize) {
                        padded.extend_from_slice(half);
                        padded.resize(padded.len().next_multiple_of(8), 0.0);
                    }
                    matrix.rows().round(&padded, &mut out);
                }
                Form::Plain(dtype) | Form::Whole(dtype) => {
                    check(name, dtype, row, &values)?;
                    dtype.encode_row(&values, &mut out.numbers);
                    // `encode_row` pads rows; files have no padding.
                    out.numbers.truncate((row - rows.start + 1) as usize * width * dtype.bytes() as usize);
                }
            }
        }
        Ok(vec![out.numbers, out.factors, out.minima])
    }

    /// Returns a function that yields the values of these rows.
    fn reader<'r>(&'r self, raw: &'r mut Vec<u8>, rows: Range<u32>) -> Result<Reader<'r>> {
        let Item { name, .. } = self.item;
        match self.weights {
            Weights::Stored(checkpoint) => {
                let tensor = checkpoint.required(name)?;
                let bytes = self.item.width() * tensor.dtype.bytes() as usize;
                raw.resize(rows.len() * bytes, 0);
                let failed = |source| Error::File { file: name.clone(), source };
                tensor.read_at(rows.start as usize * bytes, raw).map_err(failed)?;
                let place = move |row: u32| (row - rows.start) as usize * bytes;
                Ok(Box::new(move |row, values| tensor.dtype.decode_bytes(&raw[place(row)..place(row) + bytes], values)))
            }
            Weights::Synthetic(model) => {
                let values = model.tensor(name)?.values;
                Ok(Box::new(move |row, out| match values {
                    Values::Random(weight, first) => weight.row(first + row, out),
                    Values::Ones => out.fill(1.0),
                    Values::Zeros | Values::Rotary => out.fill(0.0),
                }))
            }
        }
    }
}
