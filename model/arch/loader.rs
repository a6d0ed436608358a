//! Weights on their way to a device: read or drawn, rounded, uploaded.
//!
//! A stored matrix goes through a short pipeline: a few threads each read a block of rows from the file, check and round it, and the caller's
//! thread uploads what they finish. So reading, rounding and uploading overlap, and no more than a few blocks are in memory at once.

use std::ops::Range;

use ruminate_engine::{Buffer, Device, Graph};
use ruminate_shaders::weight::{Held, StoredRows, pack};
use ruminate_shaders::{Dtype, Launch, stride};
use sha2::{Digest, Sha256};

use super::pipeline::pipeline;
use super::resident::{Layout, Matrix};
use crate::checkpoint::{BlocksView, Checkpoint, SafetensorsProblem, TensorView};
use crate::config::Config;
use crate::error::Error;
use crate::precision::Dtypes;
use crate::synthetic::{Synthetic, Values};

/// Where weights come from.
#[derive(Clone, Copy)]
pub(crate) enum Weights<'a> {
    /// Files.
    Stored(&'a Checkpoint),
    /// A generator.
    Synthetic(&'a Synthetic),
}

impl Weights<'_> {
    /// What tells them from others of the same shapes: of files as [`Checkpoint::fingerprint`] has it, else of what they are made from.
    ///
    /// # Errors
    /// [`Error::File`].
    pub(crate) fn fingerprint(self, config: &Config) -> Result<Vec<u8>, Error> {
        let hash = match self {
            Self::Stored(checkpoint) => checkpoint.fingerprint(&super::raven_tensors(config))?,
            Self::Synthetic(made) => Sha256::new_with_prefix(made.recipe()),
        };
        Ok(hash.finalize().to_vec())
    }
}

/// Puts the tensors of a model onto a device.
pub(crate) struct Loader<'a> {
    pub(crate) device: &'a Device,
    pub(crate) weights: Weights<'a>,
    /// How matrices are held.
    pub(crate) dtypes: Dtypes,
    /// Hears of the bytes uploaded.
    pub(crate) done: &'a mut dyn FnMut(u64),
}

/// Bytes that a thread reads at a time, in f32.
pub(crate) const BLOCK: usize = 8 << 20;

impl Loader<'_> {
    /// A matrix `[n, k]`, rounded.
    ///
    /// # Errors
    /// [`Error::File`], [`Error::Weight`], or the device's.
    pub(crate) fn matrix(&mut self, name: &str, layout: Layout) -> Result<Matrix, Error> {
        match self.weights {
            Weights::Stored(checkpoint) => {
                let tensor = checkpoint.required(name)?;
                let [n, k] = [0, 1].map(|axis| size(tensor.shape[axis]));
                let matrix = Matrix::allocate(self.device, name, [n, k], self.dtypes, layout)?;
                match checkpoint.blocks(name) {
                    Some(blocks) => self.take(name, &blocks, &matrix)?,
                    None => self.upload(name, &tensor, &matrix)?,
                }
                Ok(matrix)
            }
            Weights::Synthetic(model) => {
                let (shape, weight) = model.matrix(name)?;
                let matrix = Matrix::allocate(self.device, name, shape, self.dtypes, layout)?;
                let (halves, interleave) = match layout {
                    Layout::Plain => (1, 0),
                    Layout::Halves => (2, 0),
                    Layout::Interleaved => (1, shape[0] / 2),
                };
                let rows = self.block_rows(&matrix);
                let staging = self.staging(&matrix, rows)?;
                for (start, count, buffer) in matrix.parts() {
                    for first in (0..count).step_by(rows as usize) {
                        let block = rows.min(count - first);
                        let held = Held { first: start + first, count: block, halves, interleave };
                        let part = matrix.held(count);
                        self.round(&staging, buffer, &[weight.fill(held)], pack(part, first, block))?;
                    }
                    // Reading a few bytes waits for the launches, so that a long load does not pile up behind the queue.
                    self.device.read(buffer, 0..16)?;
                    (self.done)(matrix.held(count).bytes());
                }
                Ok(matrix)
            }
        }
    }

    /// A vector in f32, padded with zeros like a row of activations.
    ///
    /// # Errors
    /// [`Error::Weight`], or the device's.
    pub(crate) fn vector(&self, name: &str) -> Result<Buffer, Error> {
        self.put(name, self.values(name)?)
    }

    /// The values of a vector, padded with zeros like a row of activations.
    ///
    /// # Errors
    /// [`Error::Weight`].
    pub(crate) fn values(&self, name: &str) -> Result<Vec<f32>, Error> {
        let mut values = match self.weights {
            Weights::Stored(checkpoint) => {
                let tensor = checkpoint.required(name)?;
                let mut values = vec![0.0; tensor.shape.iter().product()];
                tensor.decode(0, &mut values).map_err(|source| Error::File { file: name.to_owned(), source })?;
                check(name, Dtype::F32, 0, &values)?;
                values
            }
            Weights::Synthetic(model) => {
                let tensor = model.tensor(name)?;
                let value = if tensor.values == Values::Ones { 1.0 } else { 0.0 };
                vec![value; tensor.shape.iter().product()]
            }
        };
        values.resize(stride(size(values.len())) as usize, 0.0);
        Ok(values)
    }

    /// The stored vector of that name, if there is one.
    ///
    /// # Errors
    /// As [`Self::vector`].
    pub(crate) fn optional_vector(&self, name: &str) -> Result<Option<Buffer>, Error> {
        match self.weights {
            Weights::Stored(checkpoint) if checkpoint.tensor(name).is_some() => self.vector(name).map(Some),
            _ => Ok(None),
        }
    }

    /// Values that were computed here.
    ///
    /// # Errors
    /// The device's.
    pub(crate) fn put(&self, name: &str, mut values: Vec<f32>) -> Result<Buffer, Error> {
        values.resize(stride(size(values.len())) as usize, 0.0);
        let buffer = self.device.buffer(name, values.len() as u64 * 4)?;
        self.device.write(&buffer, 0, bytemuck::cast_slice(&values))?;
        Ok(buffer)
    }

    /// Rows that go through staging memory at a time.
    fn block_rows(&self, matrix: &Matrix) -> u32 {
        let row = matrix.held(1).f32_bytes();
        size((BLOCK as u64 / row).max(1) as usize).next_multiple_of(matrix.group())
    }

    /// Memory on the device for `rows` rows in f32.
    fn staging(&self, matrix: &Matrix, rows: u32) -> Result<Buffer, Error> {
        Ok(self.device.buffer("rows to round", u64::from(rows) * matrix.held(1).f32_bytes())?)
    }

    /// Fills staging memory with launches, if any, and rounds what is there into a part of a matrix.
    fn round(&self, staging: &Buffer, part: &Buffer, fill: &[Launch], pack: Launch) -> Result<(), Error> {
        let mut graph = Graph::new("round");
        let (x, w) = (graph.import(staging), graph.import(part));
        for launch in fill {
            graph.launch(launch.clone(), &[x])?;
        }
        graph.launch(pack, &[x, w])?;
        self.device.execute(&self.device.plan(graph)?, &[], &[])?;
        Ok(())
    }

    /// Reads, rounds and uploads a matrix in blocks of rows.
    fn upload(&mut self, name: &str, tensor: &TensorView<'_>, matrix: &Matrix) -> Result<(), Error> {
        let rows = self.block_rows(matrix);
        let in_blocks = matrix.form().dtype.in_blocks();
        // What is rounded on the device passes through memory there.
        let staging = if in_blocks { Some(self.staging(matrix, rows)?) } else { None };
        let jobs = jobs(matrix, rows);
        let make = |block: &mut Block, job: &Job<'_>| block.round(name, tensor, matrix, job.rows.clone());
        pipeline(&jobs, make, |job, words| {
            let (count, bytes) = (job.rows.len() as u32, bytemuck::cast_slice(&words));
            if let Some(staging) = &staging {
                self.device.write(staging, 0, bytes)?;
                self.round(staging, job.buffer, &[], pack(matrix.held(job.part_rows), job.start, count))?;
            } else {
                self.device.write(job.buffer, matrix.held(job.start).bytes(), bytes)?;
            }
            (self.done)(matrix.held(count).bytes());
            Ok(())
        })
    }

    /// Reads and uploads a matrix that is stored in blocks: its numbers as they are, each where the device wants it.
    fn take(&mut self, name: &str, blocks: &BlocksView<'_>, matrix: &Matrix) -> Result<(), Error> {
        if blocks.matrix.rows().chunks != matrix.held(1).chunks {
            let reason = format!("rows in {} parts", blocks.matrix.halves);
            let problem = SafetensorsProblem::Described { tensor: name.to_owned(), reason };
            return Err(Error::Safetensors { file: blocks.name.to_owned(), problem });
        }
        let rows = self.block_rows(matrix);
        let jobs = jobs(matrix, rows);
        let make = |read: &mut StoredRows, job: &Job<'_>| read_blocks(name, blocks, matrix, job.rows.clone(), read);
        pipeline(&jobs, make, |job, words| {
            let count = job.rows.len() as u32;
            let (block, part) = (matrix.held(count), matrix.held(job.part_rows));
            // Numbers and factors lie apart, and those of the rows of a block lie together.
            let [numbers, factors] = part.places(job.start);
            let (ours, theirs) = words.split_at(block.scales() as usize * 4);
            let [_, end] = block.places(count.next_multiple_of(block.form.group()));
            let bytes: &[u8] = bytemuck::cast_slice(theirs);
            self.device.write(job.buffer, numbers, bytemuck::cast_slice(ours))?;
            self.device.write(job.buffer, factors, &bytes[..end as usize - ours.len() * 4])?;
            (self.done)(block.bytes());
            Ok(())
        })
    }
}

/// Blocks of rows of all parts of a matrix.
fn jobs(matrix: &Matrix, rows: u32) -> Vec<Job<'_>> {
    let parts = matrix.parts().flat_map(|(first, count, buffer)| {
        let blocks = (0..count).step_by(rows as usize);
        blocks.map(move |start| Job {
            buffer,
            part_rows: count,
            start,
            rows: first + start..first + count.min(start + rows),
        })
    });
    parts.collect()
}

/// The rows in blocks that the device holds at `rows`, as it holds them; `read` is memory to read them into.
fn read_blocks(
    name: &str,
    blocks: &BlocksView<'_>,
    matrix: &Matrix,
    rows: Range<u32>,
    read: &mut StoredRows,
) -> Result<Vec<u32>, Error> {
    let parts = blocks.matrix.parts();
    let row_bytes: Vec<usize> = parts.iter().map(|part| part.row_bytes).collect();
    let into = [&mut read.numbers, &mut read.factors, &mut read.minima];
    for (part, (bytes, &row_bytes)) in into.into_iter().zip(&row_bytes).enumerate() {
        bytes.resize(rows.len() * row_bytes, 0);
        let mut filled = 0;
        for run in matrix.stored_runs(rows.clone()) {
            let end = filled + run.len() * row_bytes;
            blocks
                .read_at(part, run.start as usize * row_bytes, &mut bytes[filled..end])
                .map_err(|source| Error::File { file: blocks.name.to_owned(), source })?;
            filled = end;
        }
    }
    if let Some((block, value)) = read.damaged() {
        let width = blocks.matrix.rows().blocks() as usize;
        let run = |row: &u32| matrix.place_in_runs(rows.clone(), *row) == block / width;
        let row = rows.clone().find(run).map_or(rows.start, |row| matrix.stored_row(row));
        let problem = "the factor of a block is no number: the file is damaged, quantise the original again";
        return Err(Error::Weight { tensor: name.to_owned(), row, column: size(block % width * 32), value, problem });
    }
    let held = matrix.held(rows.len() as u32);
    let mut words = vec![0; held.bytes().div_ceil(4) as usize];
    let place = |row| matrix.place_in_runs(rows.clone(), row);
    if rows.clone().all(|row| place(row) == (row - rows.start) as usize) {
        held.take(&mut words, 0, read);
    } else {
        // Gate and up in turn.
        let mut turned = StoredRows::default();
        let all = [
            (&read.numbers, &mut turned.numbers),
            (&read.factors, &mut turned.factors),
            (&read.minima, &mut turned.minima),
        ];
        for ((from, to), &row_bytes) in all.into_iter().zip(&row_bytes) {
            rows.clone().for_each(|row| to.extend_from_slice(&from[place(row) * row_bytes..][..row_bytes]));
        }
        held.take(&mut words, 0, &turned);
    }
    Ok(words)
}

/// Rows to read, round and upload.
struct Job<'a> {
    /// The part of the matrix that they belong to, and its rows.
    buffer: &'a Buffer,
    part_rows: u32,
    /// First row, within the part.
    start: u32,
    /// The same rows, as the whole matrix counts them.
    rows: Range<u32>,
}

/// What a thread works in.
#[derive(Default)]
struct Block {
    raw: Vec<u8>,
    values: Vec<f32>,
    row: Vec<u8>,
}

impl Block {
    /// The rows that the device holds at `rows`, as it holds them; in f32 if it rounds them itself.
    fn round(
        &mut self,
        name: &str,
        tensor: &TensorView<'_>,
        matrix: &Matrix,
        rows: Range<u32>,
    ) -> Result<Vec<u32>, Error> {
        let width = tensor.shape[1];
        let row_bytes = width * tensor.dtype.bytes() as usize;
        let held = matrix.held(rows.len() as u32);
        let mut out = vec![0; held.encoded_bytes().div_ceil(4) as usize];
        self.raw.resize(rows.len() * row_bytes, 0);
        self.values.resize(width, 0.0);
        let mut filled = 0;
        for run in matrix.stored_runs(rows.clone()) {
            let end = filled + run.len() * row_bytes;
            tensor
                .read_at(run.start as usize * row_bytes, &mut self.raw[filled..end])
                .map_err(|source| Error::File { file: name.to_owned(), source })?;
            filled = end;
        }
        for (at, row) in (0..).zip(rows.clone()) {
            let place = matrix.place_in_runs(rows.clone(), row) * row_bytes;
            tensor.dtype.decode_bytes(&self.raw[place..place + row_bytes], &mut self.values);
            check(name, matrix.form().dtype, matrix.stored_row(row), &self.values)?;
            self.row.clear();
            matrix.encode_row(&self.values, &mut self.row);
            held.put_encoded(&mut out, at, &self.row);
        }
        Ok(out)
    }
}

/// Fails at the first value that the dtype cannot hold.
pub(crate) fn check(tensor: &str, dtype: Dtype, row: u32, values: &[f32]) -> Result<(), Error> {
    let largest = dtype.largest();
    // A comparison is false for what is not a number; all of them at once are vector instructions.
    let fits = |value: &f32| value.abs() <= largest;
    if values.iter().fold(true, |good, value| good & fits(value)) {
        return Ok(());
    }
    let column = values.iter().position(|value| !fits(value)).unwrap_or_default();
    let value = values[column];
    let problem = if value.is_finite() {
        "too large for this dtype; load with bf16 or f32"
    } else {
        "the file is damaged or training failed; fetch it again"
    };
    Err(Error::Weight { tensor: tensor.to_owned(), row, column: size(column), value, problem })
}

/// A size that was checked against the config, where all sizes are `u32`.
fn size(value: usize) -> u32 {
    u32::try_from(value).expect("sizes were checked against the config")
}
