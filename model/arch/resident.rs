//! Weights on the device, in the form that the kernels read.

use ruminate_engine::{Buffer, Device, Graph, Tensor};
use ruminate_shaders::matmul::{Input, Matmul, Output, matmul};
use ruminate_shaders::{Dtype, stride, weight};

use crate::checkpoint::TensorView;
use crate::error::Error;

/// How the rows and columns of a stored matrix are arranged on the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// As stored.
    Plain,
    /// Columns in two halves, each padded on its own: the adapter's state and embedding.
    Halves,
    /// The first half of the rows (gate) and the second (up) in turn.
    Interleaved,
}

/// A matrix `[n, k]`, in as many buffers as the device's binding limit asks for.
#[derive(Debug)]
pub(crate) struct Matrix {
    n: u32,
    k: u32,
    dtype: Dtype,
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

/// Rows of a part are a multiple of this, so that every part but the last ends on whole groups of outputs.
const ROW_GROUP: u32 = 16;

/// Bytes that are rounded and staged at a time.
const STAGING: usize = 8 << 20;

impl Matrix {
    /// Uploads a stored matrix `[n, k]`, rounded to `dtype`, row group after row group; `done` hears of the bytes read.
    pub(crate) fn upload(
        device: &Device,
        name: &str,
        tensor: &TensorView<'_>,
        dtype: Dtype,
        layout: Layout,
        done: &mut dyn FnMut(u64),
    ) -> Result<Self, Error> {
        let n = u32::try_from(tensor.shape[0]).expect("shapes were checked against the config");
        let k = u32::try_from(tensor.shape[1]).expect("shapes were checked against the config");
        let mut matrix = Self { n, k, dtype, layout, parts: Vec::new() };
        let row_bytes = dtype.matrix_bytes(1, matrix.chunks());
        let most = u32::try_from(device.caps().max_binding / row_bytes).unwrap_or(u32::MAX);
        let most = (most / ROW_GROUP * ROW_GROUP).max(ROW_GROUP);
        let mut first = 0;
        while first < n {
            let count = most.min(n - first);
            let buffer = device.buffer(name, dtype.matrix_bytes(count, matrix.chunks()))?;
            matrix.fill(device, &buffer, tensor, first..first + count, done)?;
            matrix.parts.push(Part { first, count, buffer });
            first += count;
        }
        Ok(matrix)
    }

    fn fill(
        &self,
        device: &Device,
        buffer: &Buffer,
        tensor: &TensorView<'_>,
        rows: std::ops::Range<u32>,
        done: &mut dyn FnMut(u64),
    ) -> Result<(), Error> {
        let width = self.k as usize;
        let mut values = vec![0.0; width];
        let mut staged = Vec::with_capacity(STAGING + width * 4);
        let mut offset = 0;
        for row in rows {
            tensor.decode(self.stored_row(row) as usize * width, &mut values);
            match self.layout {
                Layout::Plain | Layout::Interleaved => self.dtype.encode_row(&values, &mut staged),
                Layout::Halves => {
                    let (state, embedding) = values.split_at(width / 2);
                    self.dtype.encode_row(state, &mut staged);
                    self.dtype.encode_row(embedding, &mut staged);
                }
            }
            if staged.len() >= STAGING {
                device.write(buffer, offset, &staged)?;
                offset += staged.len() as u64;
                done(staged.len() as u64);
                staged.clear();
            }
        }
        device.write(buffer, offset, &staged)?;
        done(staged.len() as u64);
        Ok(())
    }

    /// Where the row that the device holds at `row` is stored.
    fn stored_row(&self, row: u32) -> u32 {
        match self.layout {
            Layout::Plain | Layout::Halves => row,
            Layout::Interleaved => row % 2 * (self.n / 2) + row / 2,
        }
    }

    /// Bytes on the device.
    pub(crate) fn bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.buffer.size()).sum()
    }

    /// How the values are stored.
    pub(crate) const fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn chunks(&self) -> u32 {
        match self.layout {
            Layout::Plain | Layout::Interleaved => weight::chunks(self.k),
            Layout::Halves => 2 * weight::chunks(self.k / 2),
        }
    }

    /// First row, number of rows and buffer of each part.
    pub(crate) fn parts(&self) -> impl Iterator<Item = (u32, u32, &Buffer)> {
        self.parts.iter().map(|part| (part.first, part.count, &part.buffer))
    }

    /// Records `y = W·x` with what follows it. `inputs` are x, or state and embedding, and then the residual if any.
    pub(crate) fn apply(
        &self,
        graph: &mut Graph,
        device: &Device,
        (rows, count): (Tensor, u32),
        inputs: &[Tensor],
        output: Output,
        y: Tensor,
    ) -> Result<(), Error> {
        let (input, k) = match self.layout {
            Layout::Plain | Layout::Interleaved => (Input::Plain, self.k),
            Layout::Halves => (Input::Concat, self.k / 2),
        };
        for part in &self.parts {
            let Part { first, count: part_rows, .. } = *part;
            let shape = Matmul { rows: count, k, n: self.n, first, count: part_rows, dtype: self.dtype, input, output };
            let weights = graph.import(&part.buffer);
            let mut bindings = vec![rows, weights];
            bindings.extend_from_slice(inputs);
            bindings.push(y);
            graph.launch(matmul(&device.caps(), shape), &bindings)?;
        }
        Ok(())
    }
}

/// Uploads a vector in f32, padded with zeros like a row of activations.
pub(crate) fn upload_vector(device: &Device, name: &str, tensor: &TensorView<'_>) -> Result<Buffer, Error> {
    let length: usize = tensor.shape.iter().product();
    let mut values = vec![0.0; length];
    tensor.decode(0, &mut values);
    values.resize(stride(u32::try_from(length).expect("shapes were checked against the config")) as usize, 0.0);
    let buffer = device.buffer(name, values.len() as u64 * 4)?;
    device.write(&buffer, 0, bytemuck::cast_slice(&values))?;
    Ok(buffer)
}
