//! Loading of weights onto a device: read or drawn, rounded, uploaded.
//!
//! A stored matrix goes through a short pipeline: a few threads each read a block of rows from the file, check and round it, and the caller's thread uploads
//! the finished blocks. Reading, rounding and uploading therefore overlap, and only a few blocks are in memory at once.

use std::ops::Range;

use ruminate_engine::{Buffer, Device, Graph};
use ruminate_shaders::weight::{Held, RandomWeight, StoredRows, pack};
use ruminate_shaders::{Dtype, Launch, stride};
use sha2::{Digest, Sha256};

use super::manifest::{Drawn, Entry, Manifest, Role};
use super::pipeline::pipeline;
use super::resident::Matrix;
use super::spec::Spec;
use crate::checkpoint::{BlocksView, Checkpoint, SafetensorsProblem, TensorView};
use crate::error::{Error, TensorProblem};
use crate::precision::Dtypes;
use crate::synthetic::Synthetic;

/// Source of weights.
#[derive(Clone, Copy)]
pub(crate) enum Weights<'a> {
    /// Files.
    Stored(&'a Checkpoint),
    /// Generator of synthetic weights.
    Synthetic(&'a Synthetic),
}

impl Weights<'_> {
    /// Hash that distinguishes these weights from others of the same shapes: [`Checkpoint::fingerprint`] for files, the recipe for synthetic weights.
    ///
    /// # Errors
    /// [`Error::File`] if a file cannot be read.
    pub(crate) fn fingerprint(self, spec: &Spec) -> Result<Vec<u8>, Error> {
        let hash = match self {
            Self::Stored(checkpoint) => checkpoint.fingerprint(&spec.tensors())?,
            Self::Synthetic(made) => Sha256::new_with_prefix(made.recipe()),
        };
        Ok(hash.finalize().to_vec())
    }
}

/// Uploads a model's tensors to a device.
pub(crate) struct Loader<'a> {
    pub(crate) device: &'a Device,
    pub(crate) weights: Weights<'a>,
    /// Dtypes of the matrices.
    pub(crate) dtypes: Dtypes,
    /// The model's tensors.
    pub(crate) manifest: &'a Manifest,
    /// Called with the number of bytes uploaded; an error cancels the load.
    pub(crate) done: &'a mut dyn FnMut(u64) -> Result<(), Error>,
}

/// Bytes that a thread reads at a time, counted as f32.
pub(crate) const BLOCK: usize = 8 << 20;

/// Stored tensors with stacked rows.
struct Stack<T> {
    /// First row of each tensor, and the tensor.
    parts: Vec<(u32, T)>,
    rows: u32,
}

impl<T> Stack<T> {
    /// Splits a range of stacked rows into tensors and row ranges within them.
    fn pieces(&self, run: Range<u32>) -> impl Iterator<Item = (&T, Range<u32>)> {
        self.parts.iter().enumerate().filter_map(move |(i, (first, part))| {
            let end = self.parts.get(i + 1).map_or(self.rows, |(next, _)| *next);
            let (start, end) = (run.start.max(*first), run.end.min(end));
            (start < end).then(|| (part, start - first..end - first))
        })
    }
}

/// A stored tensor and its name.
type Named<'a> = (&'a str, TensorView<'a>);

impl<'a> Loader<'a> {
    /// The manifest's entry for a role.
    fn entry(&self, role: Role) -> Result<&'a Entry, Error> {
        self.manifest.entry(role).ok_or_else(|| missing(&format!("{role:?}")))
    }

    /// Loads the matrix of a role `[n, k]`, rounded to its dtype.
    ///
    /// # Errors
    /// [`Error::File`], [`Error::Weight`], or an error of the device.
    pub(crate) fn matrix(&mut self, role: Role) -> Result<Matrix, Error> {
        let entry = self.entry(role)?;
        let shape = entry.matrix().unwrap_or_default();
        let form = (self.dtypes.form_of(&self.device.caps(), entry.group()), self.dtypes.products());
        let matrix = Matrix::allocate(self.device, entry.name(), shape, form, entry.layout)?;
        match self.weights {
            Weights::Stored(checkpoint) => {
                if entry.sources.iter().any(|source| checkpoint.blocks(&source.name).is_some()) {
                    let parts = entry.stack(|name| checkpoint.blocks(name).ok_or_else(|| missing(name)))?;
                    self.take(entry.name(), &parts, &matrix)?;
                } else {
                    let parts = entry.stack(|name| Ok((name, checkpoint.required(name)?)))?;
                    self.upload(&parts, &matrix)?;
                }
            }
            Weights::Synthetic(model) => self.draw(&model.weight(entry), &matrix)?,
        }
        Ok(matrix)
    }

    /// Draws a synthetic matrix on the device.
    fn draw(&mut self, weight: &RandomWeight, matrix: &Matrix) -> Result<(), Error> {
        let layout = matrix.layout();
        let rows = self.block_rows(matrix);
        let staging = self.staging(matrix, rows)?;
        for (start, count, buffer) in matrix.parts() {
            for first in (0..count).step_by(rows as usize) {
                let block = rows.min(count - first);
                let held = Held { first: start + first, count: block, halves: layout.halves, rows: layout.rows };
                let part = matrix.held(count);
                self.round(&staging, buffer, &[weight.fill(held)], pack(part, first, block))?;
            }
            // Reading a few bytes waits for the launches to finish; otherwise a long load would fill the queue.
            self.device.read(buffer, 0..16)?;
            (self.done)(matrix.held(count).bytes())?;
        }
        Ok(())
    }

    /// Loads the vector of a role in f32, padded with zeros like a row of activations.
    ///
    /// # Errors
    /// [`Error::Weight`], or an error of the device.
    pub(crate) fn vector(&self, role: Role) -> Result<Buffer, Error> {
        let entry = self.entry(role)?;
        self.put(entry.name(), self.values(entry)?)
    }

    /// Loads the vector of a role as [`Self::vector`] does, if the model has it.
    ///
    /// # Errors
    /// See [`Self::vector`].
    pub(crate) fn optional_vector(&self, role: Role) -> Result<Option<Buffer>, Error> {
        self.manifest.entry(role).map(|_| self.vector(role)).transpose()
    }

    /// Values of a role's vector, padded with zeros like a row of activations, if the model has the vector.
    ///
    /// # Errors
    /// [`Error::Weight`].
    pub(crate) fn optional_values(&self, role: Role) -> Result<Option<Vec<f32>>, Error> {
        let padded = |entry| {
            let mut values = self.values(entry)?;
            values.resize(stride(size(values.len())) as usize, 0.0);
            Ok(values)
        };
        self.manifest.entry(role).map(padded).transpose()
    }

    /// Values of an optional vector, if it is stored.
    ///
    /// # Errors
    /// [`Error::Weight`].
    pub(crate) fn stored_values(&self, role: Role) -> Result<Option<Vec<f32>>, Error> {
        let Weights::Stored(checkpoint) = self.weights else { return Ok(None) };
        let entry = self.manifest.entry(role).filter(|entry| checkpoint.tensor(entry.name()).is_some());
        entry.map(|entry| self.values(entry)).transpose()
    }

    /// Weights and bias of the exit gate, if there is one: the weights padded like a row of activations, then the bias and padding.
    ///
    /// # Errors
    /// See [`Self::vector`].
    pub(crate) fn gate(&self) -> Result<Option<Buffer>, Error> {
        let (weights, bias) = (self.optional_values(Role::Gate)?, self.optional_values(Role::GateBias)?);
        let Some((mut values, bias)) = weights.zip(bias) else { return Ok(None) };
        values.extend_from_slice(&bias[..4]);
        self.put("exit gate", values).map(Some)
    }

    /// Values of a vector in the device's order.
    fn values(&self, entry: &Entry) -> Result<Vec<f32>, Error> {
        let mut values = Vec::with_capacity(entry.values());
        for source in &entry.sources {
            let count: usize = source.shape.iter().product();
            match self.weights {
                Weights::Stored(checkpoint) => {
                    let (name, start) = (&source.name, values.len());
                    values.resize(start + count, 0.0);
                    let decoded = checkpoint.required(name)?.decode(0, &mut values[start..]);
                    decoded.map_err(|source| Error::File { file: name.clone(), source })?;
                    check(name, Dtype::F32, 0, &values[start..])?;
                }
                Weights::Synthetic(_) => {
                    let value = if entry.drawn == Drawn::Ones { 1.0 } else { 0.0 };
                    values.resize(values.len() + count, value);
                }
            }
        }
        Ok((0..size(values.len())).map(|place| values[entry.layout.rows.stored(place) as usize]).collect())
    }

    /// Uploads values that the host computed, padded with zeros like a row of activations.
    ///
    /// # Errors
    /// Errors of the device.
    pub(crate) fn put(&self, name: &str, mut values: Vec<f32>) -> Result<Buffer, Error> {
        values.resize(stride(size(values.len())) as usize, 0.0);
        let buffer = self.device.buffer(name, values.len() as u64 * 4)?;
        self.device.write(&buffer, 0, bytemuck::cast_slice(&values))?;
        Ok(buffer)
    }

    /// Number of rows that pass through staging memory at a time.
    fn block_rows(&self, matrix: &Matrix) -> u32 {
        let row = matrix.held(1).f32_bytes();
        size((BLOCK as u64 / row).max(1) as usize).next_multiple_of(matrix.group())
    }

    /// Memory on the device for `rows` rows in f32.
    fn staging(&self, matrix: &Matrix, rows: u32) -> Result<Buffer, Error> {
        Ok(self.device.buffer("rows to round", u64::from(rows) * matrix.held(1).f32_bytes())?)
    }

    /// Fills staging memory with the `fill` launches, if any, and rounds its rows into a part of a matrix.
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
    fn upload(&mut self, stored: &Stack<Named<'_>>, matrix: &Matrix) -> Result<(), Error> {
        let rows = self.block_rows(matrix);
        let in_blocks = matrix.form().dtype.in_blocks();
        // Matrices in blocks are rounded on the device, from rows in staging memory.
        let staging = if in_blocks { Some(self.staging(matrix, rows)?) } else { None };
        let jobs = jobs(matrix, rows);
        let make = |block: &mut Block, job: &Job<'_>| block.round(stored, matrix, job.rows.clone());
        pipeline(&jobs, make, |job, words| {
            let (count, bytes) = (job.rows.len() as u32, bytemuck::cast_slice(&words));
            if let Some(staging) = &staging {
                self.device.write(staging, 0, bytes)?;
                self.round(staging, job.buffer, &[], pack(matrix.held(job.part_rows), job.start, count))?;
            } else {
                self.device.write(job.buffer, matrix.held(job.start).bytes(), bytes)?;
            }
            (self.done)(matrix.held(count).bytes())
        })
    }

    /// Reads and uploads a matrix that is stored in blocks. Its numbers and factors are not rounded again, only rearranged for the device.
    fn take(&mut self, name: &str, stored: &Stack<BlocksView<'_>>, matrix: &Matrix) -> Result<(), Error> {
        for (_, blocks) in &stored.parts {
            if blocks.matrix.rows().chunks != matrix.held(1).chunks {
                let reason = format!("rows in {} parts", blocks.matrix.halves);
                let problem = SafetensorsProblem::Described { tensor: name.to_owned(), reason };
                return Err(Error::Safetensors { file: blocks.name.to_owned(), problem });
            }
        }
        let rows = self.block_rows(matrix);
        let jobs = jobs(matrix, rows);
        let make = |read: &mut StoredRows, job: &Job<'_>| read_blocks(name, stored, matrix, job.rows.clone(), read);
        pipeline(&jobs, make, |job, words| {
            let count = job.rows.len() as u32;
            let (block, part) = (matrix.held(count), matrix.held(job.part_rows));
            // The device keeps numbers and factors in separate ranges; a finished block holds the numbers of all its rows, then their factors.
            let [numbers, factors] = part.places(job.start);
            let (ours, theirs) = words.split_at(block.scales() as usize * 4);
            let [_, end] = block.places(count.next_multiple_of(block.form.group()));
            let bytes: &[u8] = bytemuck::cast_slice(theirs);
            self.device.write(job.buffer, numbers, bytemuck::cast_slice(ours))?;
            self.device.write(job.buffer, factors, &bytes[..end as usize - ours.len() * 4])?;
            (self.done)(block.bytes())
        })
    }
}

impl Entry {
    /// Stacks the entry's sources, each looked up by name with `of`.
    fn stack<'a, T>(&'a self, mut of: impl FnMut(&'a str) -> Result<T, Error>) -> Result<Stack<T>, Error> {
        let (mut parts, mut rows) = (Vec::new(), 0);
        for source in &self.sources {
            parts.push((rows, of(&source.name)?));
            rows += size(source.shape[0]);
        }
        Ok(Stack { parts, rows })
    }
}

/// Error for a missing tensor.
fn missing(name: &str) -> Error {
    Error::Tensors(vec![TensorProblem::Missing { name: name.to_owned(), shape: Vec::new() }])
}

/// Splits all parts of a matrix into blocks of rows.
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

/// Reads the rows that the device holds at `rows` of a matrix stored in blocks, in the device's arrangement; `read` is scratch memory.
fn read_blocks(
    name: &str,
    stored: &Stack<BlocksView<'_>>,
    matrix: &Matrix,
    rows: Range<u32>,
    read: &mut StoredRows,
) -> Result<Vec<u32>, Error> {
    let shape = stored.parts[0].1.matrix;
    let parts = shape.parts();
    let row_bytes: Vec<usize> = parts.iter().map(|part| part.row_bytes).collect();
    let runs = matrix.stored_runs(rows.clone());
    let into = [&mut read.numbers, &mut read.factors, &mut read.minima];
    for (part, (bytes, &row_bytes)) in into.into_iter().zip(&row_bytes).enumerate() {
        bytes.resize(rows.len() * row_bytes, 0);
        let mut filled = 0;
        for (blocks, piece) in runs.runs.iter().flat_map(|run| stored.pieces(run.clone())) {
            let end = filled + piece.len() * row_bytes;
            blocks
                .read_at(part, piece.start as usize * row_bytes, &mut bytes[filled..end])
                .map_err(|source| Error::File { file: blocks.name.to_owned(), source })?;
            filled = end;
        }
    }
    let place = |row: u32| runs.place(matrix.stored_row(row));
    if let Some((block, value)) = read.damaged() {
        let width = shape.rows().blocks() as usize;
        let row = rows.clone().find(|&row| place(row) == block / width);
        let row = row.map_or(rows.start, |row| matrix.stored_row(row));
        let problem = "a block's factor is not a finite number: the file is damaged; quantize the original again";
        return Err(Error::Weight { tensor: name.to_owned(), row, column: size(block % width * 32), value, problem });
    }
    let held = matrix.held(rows.len() as u32);
    let mut words = vec![0; held.bytes().div_ceil(4) as usize];
    if rows.clone().all(|row| place(row) == (row - rows.start) as usize) {
        held.take(&mut words, 0, read);
    } else {
        // The layout interleaves halves, so rows are copied in that order.
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

/// A block of rows to read, round and upload.
struct Job<'a> {
    /// The part of the matrix that the block belongs to.
    buffer: &'a Buffer,
    part_rows: u32,
    /// First row, within the part.
    start: u32,
    /// Row range in the whole matrix.
    rows: Range<u32>,
}

/// Scratch memory of a thread.
#[derive(Default)]
struct Block {
    raw: Vec<u8>,
    values: Vec<f32>,
    row: Vec<u8>,
}

impl Block {
    /// Reads and rounds the rows that the device holds at `rows`, in the device's arrangement; rows stay in f32 if the device rounds them.
    fn round(&mut self, stored: &Stack<Named<'_>>, matrix: &Matrix, rows: Range<u32>) -> Result<Vec<u32>, Error> {
        let runs = matrix.stored_runs(rows.clone());
        // Each row that was read: its tensor, its row there, and the offset of its bytes in `raw`.
        let mut read: Vec<(&Named<'_>, u32, usize)> = Vec::with_capacity(rows.len());
        let mut filled = 0;
        for (part, piece) in runs.runs.iter().flat_map(|run| stored.pieces(run.clone())) {
            let (name, tensor) = part;
            let row_bytes = tensor.shape[1] * tensor.dtype.bytes() as usize;
            let end = filled + piece.len() * row_bytes;
            if self.raw.len() < end {
                self.raw.resize(end, 0);
            }
            tensor
                .read_at(piece.start as usize * row_bytes, &mut self.raw[filled..end])
                .map_err(|source| Error::File { file: (*name).to_owned(), source })?;
            read.extend(piece.clone().map(|row| (part, row, filled + (row - piece.start) as usize * row_bytes)));
            filled = end;
        }
        let held = matrix.held(rows.len() as u32);
        let mut out = vec![0; held.encoded_bytes().div_ceil(4) as usize];
        for (at, row) in (0..).zip(rows) {
            let ((name, tensor), stored_row, start) = read[runs.place(matrix.stored_row(row))];
            let width = tensor.shape[1];
            self.values.resize(width, 0.0);
            let bytes = &self.raw[start..start + width * tensor.dtype.bytes() as usize];
            tensor.dtype.decode_bytes(bytes, &mut self.values);
            check(name, matrix.form().dtype, stored_row, &self.values)?;
            self.row.clear();
            matrix.encode_row(&self.values, &mut self.row);
            held.put_encoded(&mut out, at, &self.row);
        }
        Ok(out)
    }
}

/// Fails at the first value that the dtype cannot represent.
pub(crate) fn check(tensor: &str, dtype: Dtype, row: u32, values: &[f32]) -> Result<(), Error> {
    let largest = dtype.largest();
    // The comparison is also false for NaN. Without an early exit the loop compiles to vector instructions.
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

/// Converts a size that was checked against the configuration, where all sizes are `u32`.
fn size(value: usize) -> u32 {
    u32::try_from(value).expect("sizes were checked against the config")
}
