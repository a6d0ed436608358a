//! Weights on their way to a device: read or drawn, rounded, uploaded.
//!
//! A stored matrix goes through a short pipeline: a few threads each read a block of rows from the file, check and round it, and the caller's
//! thread uploads what they finish. So reading, rounding and uploading overlap, and no more than a few blocks are in memory at once.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc;
use std::thread;

use ruminate_engine::{Buffer, Device, Graph};
use ruminate_shaders::weight::{Held, pack};
use ruminate_shaders::{Dtype, Launch, stride};

use super::resident::{Layout, Matrix};
use crate::checkpoint::{Checkpoint, TensorView};
use crate::error::Error;
use crate::synthetic::{Synthetic, Values};

/// Where weights come from.
#[derive(Clone, Copy)]
pub(crate) enum Weights<'a> {
    /// Files.
    Stored(&'a Checkpoint),
    /// A generator.
    Synthetic(&'a Synthetic),
}

/// Puts the tensors of a model onto a device.
pub(crate) struct Loader<'a> {
    pub(crate) device: &'a Device,
    pub(crate) weights: Weights<'a>,
    /// How matrices are held.
    pub(crate) dtype: Dtype,
    /// Hears of the bytes uploaded.
    pub(crate) done: &'a mut dyn FnMut(u64),
}

/// Bytes that a thread reads at a time, in f32.
const BLOCK: usize = 8 << 20;

/// Threads that read and round, at most: more than that outrun any upload.
const THREADS: usize = 8;

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
                let matrix = Matrix::allocate(self.device, name, [n, k], self.dtype, layout)?;
                self.upload(name, &tensor, &matrix)?;
                Ok(matrix)
            }
            Weights::Synthetic(model) => {
                let (shape, weight) = model.matrix(name)?;
                let matrix = Matrix::allocate(self.device, name, shape, self.dtype, layout)?;
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
                tensor.decode(0, &mut values);
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
        let jobs: Vec<Job<'_>> = matrix
            .parts()
            .flat_map(|(first, count, buffer)| {
                let blocks = (0..count).step_by(rows as usize);
                blocks.map(move |start| Job {
                    buffer,
                    part_rows: count,
                    start,
                    rows: first + start..first + count.min(start + rows),
                })
            })
            .collect();
        let threads = thread::available_parallelism().map_or(1, usize::from).min(THREADS).min(jobs.len());
        let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
        thread::scope(|scope| {
            let (finished, inbox) = mpsc::sync_channel(threads);
            for _ in 0..threads {
                let (finished, jobs, next, stop) = (finished.clone(), &jobs, &next, &stop);
                scope.spawn(move || {
                    let mut block = Block::default();
                    while let Some(job) = jobs.get(next.fetch_add(1, Relaxed)).filter(|_| !stop.load(Relaxed)) {
                        let outcome = block.round(name, tensor, matrix, job.rows.clone());
                        if finished.send((job, outcome)).is_err() {
                            return;
                        }
                    }
                });
            }
            drop(finished);
            for (job, outcome) in inbox {
                let uploaded = outcome.and_then(|bytes| {
                    let count = job.rows.len() as u32;
                    if let Some(staging) = &staging {
                        self.device.write(staging, 0, &bytes)?;
                        self.round(staging, job.buffer, &[], pack(matrix.held(job.part_rows), job.start, count))?;
                    } else {
                        self.device.write(job.buffer, matrix.held(job.start).bytes(), &bytes)?;
                    }
                    (self.done)(matrix.held(count).bytes());
                    Ok(())
                });
                if uploaded.is_err() {
                    // Threads that wait for room in the channel are woken when it is dropped.
                    stop.store(true, Relaxed);
                    return uploaded;
                }
            }
            Ok(())
        })
    }
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
}

impl Block {
    /// The rows that the device holds at `rows`, as it holds them; in f32 if it rounds them itself.
    fn round(
        &mut self,
        name: &str,
        tensor: &TensorView<'_>,
        matrix: &Matrix,
        rows: Range<u32>,
    ) -> Result<Vec<u8>, Error> {
        let width = tensor.shape[1];
        let row_bytes = width * tensor.dtype.bytes() as usize;
        let mut out = Vec::with_capacity(rows.len() * matrix.held(1).f32_bytes() as usize);
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
        for row in rows.clone() {
            let place = matrix.place_in_runs(rows.clone(), row) * row_bytes;
            tensor.dtype.decode_bytes(&self.raw[place..place + row_bytes], &mut self.values);
            check(name, matrix.form().dtype, matrix.stored_row(row), &self.values)?;
            matrix.encode_row(&self.values, &mut out);
        }
        Ok(matrix.held(rows.len() as u32).encode(out))
    }
}

/// Fails at the first value that the dtype cannot hold.
fn check(tensor: &str, dtype: Dtype, row: u32, values: &[f32]) -> Result<(), Error> {
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
