//! Weights on the device, in the form that the kernels read.

use std::ops::Range;

use ruminate_engine::{Buffer, Device, Graph, Tensor};
use ruminate_shaders::matmul::{
    Arithmetic, Input, Matmul, Normed, Output, matmul_variants, round_rows, rounded_bytes, stage, staged_bytes, stages,
};
use ruminate_shaders::weight::{self, Form, Resident};

use super::manifest::{Entry, Layout};
use crate::error::Error;

/// A matrix `[n, k]` on the device, in as many parts as the device's limits require.
#[derive(Debug)]
pub(crate) struct Matrix {
    n: u32,
    k: u32,
    form: Form,
    /// Arithmetic mode of its products.
    products: Arithmetic,
    layout: Layout,
    parts: Vec<Part>,
}

/// Consecutive rows of a matrix.
#[derive(Debug)]
struct Part {
    first: u32,
    count: u32,
    buffer: Buffer,
}

/// Rows of every part but the last are a multiple of this, so that parts consist of whole groups of outputs.
const ROW_GROUP: u32 = 16;

impl Matrix {
    /// Allocates a matrix `[n, k]` of zeros in this form.
    pub(crate) fn allocate(
        device: &Device,
        name: &str,
        [n, k]: [u32; 2],
        (form, products): (Form, Arithmetic),
        layout: Layout,
    ) -> Result<Self, Error> {
        let caps = device.caps();
        let mut matrix = Self { n, k, form, products, layout, parts: Vec::new() };
        let most = if form.in_texture() { caps.max_texture } else { caps.max_binding };
        let grain = matrix.group();
        let most = u32::try_from(most / matrix.held(grain).bytes()).unwrap_or(u32::MAX).max(1).saturating_mul(grain);
        let mut first = 0;
        while first < n {
            let count = most.min(n - first);
            let bytes = matrix.held(count).bytes();
            let buffer = if form.in_texture() { device.texels(name, bytes)? } else { device.buffer(name, bytes)? };
            matrix.parts.push(Part { first, count, buffer });
            first += count;
        }
        Ok(matrix)
    }

    /// Rows that are uploaded together: blocks and parts begin at multiples of this.
    pub(crate) fn group(&self) -> u32 {
        self.form.group().max(ROW_GROUP)
    }

    /// Sizes of `rows` rows of this matrix, as a matrix of their own.
    pub(crate) fn held(&self, rows: u32) -> Resident {
        Resident { form: self.form, rows, chunks: self.layout.chunks(self.k) }
    }

    /// Appends a row `[k]` to `out`, rounded and padded.
    pub(crate) fn encode_row(&self, values: &[f32], out: &mut Vec<u8>) {
        let half = values.len() / self.layout.halves as usize;
        values.chunks(half.max(1)).for_each(|half| self.form.dtype.encode_row(half, out));
    }

    /// Index in the checkpoint of the row that the device holds at `row`.
    pub(crate) fn stored_row(&self, row: u32) -> u32 {
        self.layout.rows.stored(row)
    }

    /// Ranges of stored rows that make up the device's `rows`.
    pub(crate) fn stored_runs(&self, rows: Range<u32>) -> Runs {
        let mut stored: Vec<u32> = rows.map(|row| self.stored_row(row)).collect();
        stored.sort_unstable();
        let runs = stored.chunk_by(|a, b| a + 1 == *b).map(|run| run[0]..run[run.len() - 1] + 1);
        Runs { runs: runs.collect() }
    }

    /// Bytes on the device.
    pub(crate) fn bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.buffer.size()).sum()
    }

    /// Arrangement of rows and columns.
    pub(crate) const fn layout(&self) -> Layout {
        self.layout
    }

    /// Form in which it is held.
    pub(crate) const fn form(&self) -> Form {
        self.form
    }

    /// First row, number of rows and buffer of each part.
    pub(crate) fn parts(&self) -> impl Iterator<Item = (u32, u32, &Buffer)> {
        self.parts.iter().map(|part| (part.first, part.count, &part.buffer))
    }

    /// Records `y = W·x`, then the operation of `output`. `inputs` are x, or state and embedding, then the residual if any.
    pub(crate) fn apply(
        &self,
        graph: &mut Graph,
        device: &Device,
        (rows, count): (Tensor, u32),
        inputs: &[Tensor],
        output: Output,
        y: Tensor,
    ) -> Result<(), Error> {
        let (input, taken) = if self.layout.halves == 2 { (Input::Concat, 2) } else { (Input::Plain, 1) };
        if !self.form.in_texture() || !stages(count, self.k) {
            return self.apply_flow(graph, device, (rows, count), (input, output, None), inputs, y);
        }
        // Each group of W's rows reads all of x, so x is first copied into the layout that suits that.
        let chunks = self.layout.chunks(self.k);
        let staged = graph.scratch_texels("staged", staged_bytes(count, chunks));
        let (from, rest) = inputs.split_at(taken);
        graph.launch(stage(count, chunks, input), &[&[staged], from].concat())?;
        let flow = (Input::Staged, output, None);
        self.apply_flow(graph, device, (rows, count), flow, &[&[staged], rest].concat(), y)
    }

    /// Records `y = W·x + residual`. The residual is plain rows, or the values of fused sums.
    pub(crate) fn apply_residual(
        &self,
        graph: &mut Graph,
        device: &Device,
        rows: (Tensor, u32),
        (x, residual, fused): (Tensor, Tensor, Option<Normed>),
        y: Tensor,
    ) -> Result<(), Error> {
        if fused.is_none() {
            return self.apply(graph, device, rows, &[x, residual], Output::Residual, y);
        }
        self.apply_flow(graph, device, rows, (Input::Plain, Output::Residual, fused), &[x, residual], y)
    }

    /// Records a product with any input and output, and the fused sums that they read. `inputs` are the bindings of
    /// [`matmul`](ruminate_shaders::matmul::matmul) between W and y.
    pub(crate) fn apply_flow(
        &self,
        graph: &mut Graph,
        device: &Device,
        (rows, count): (Tensor, u32),
        (mut input, output, normed): (Input, Output, Option<Normed>),
        inputs: &[Tensor],
        y: Tensor,
    ) -> Result<(), Error> {
        let (caps, chunks) = (device.caps(), self.layout.chunks(self.k));
        let mut inputs = inputs.to_vec();
        if self.products.rounds(self.form.dtype) {
            let [numbers, factors] = rounded_bytes(count, chunks);
            let rounded = [graph.scratch("numbers", numbers), graph.scratch("factors", factors)];
            let taken = inputs.drain(..if input == Input::Concat { 2 } else { 1 });
            let bound: Vec<Tensor> = [rows].into_iter().chain(rounded).chain(taken).collect();
            graph.launch(round_rows(&caps, (count, chunks), (input, normed), self.form.dtype), &bound)?;
            inputs.splice(..0, rounded);
            input = Input::Rounded;
        }
        let k = match input {
            Input::Concat => self.k / 2,
            Input::Staged | Input::Rounded => chunks * 8,
            Input::Plain | Input::Normed => self.k,
        };
        let arithmetic = self.products;
        let uniform = inputs.first().is_some_and(|x| graph.binds_as_uniform(*x));
        for part in &self.parts {
            let Part { first, count: part_rows, .. } = *part;
            let whole = Matmul::whole(count, k, self.n, self.form);
            let shape = Matmul { first, count: part_rows, input, output, normed, uniform, arithmetic, ..whole };
            let weights = graph.import(&part.buffer);
            let mut bindings = vec![rows, weights];
            bindings.extend_from_slice(&inputs);
            bindings.push(y);
            graph.launch(device.pick(matmul_variants(&caps, shape)), &bindings)?;
        }
        Ok(())
    }
}

impl Layout {
    /// Number of chunks in a row of `k` values.
    const fn chunks(self, k: u32) -> u32 {
        self.halves * weight::chunks(k / self.halves)
    }
}

/// Ranges of stored rows, in ascending order.
pub(crate) struct Runs {
    pub(crate) runs: Vec<Range<u32>>,
}

impl Runs {
    /// Index of a stored row in the concatenation of these ranges.
    pub(crate) fn place(&self, stored: u32) -> usize {
        let mut before = 0;
        for run in &self.runs {
            if run.contains(&stored) {
                return before + (stored - run.start) as usize;
            }
            before += run.len();
        }
        before
    }
}

/// Bytes that a device allocates for a tensor, for a matrix in this form.
pub(crate) fn entry_bytes(entry: &Entry, form: Form) -> u64 {
    match entry.matrix() {
        Some([n, k]) => Resident { form, rows: n, chunks: entry.layout.chunks(k) }.memory(),
        None => ruminate_shaders::activation_bytes(1, entry.values() as u32),
    }
}
