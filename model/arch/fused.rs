//! Blocks of a few rows without a launch for their norms.
//!
//! With few rows a launch costs more than what a norm computes. So the sums of a block stay records ([`Record`]), which the next matmul norms as it
//! reads them: see there for the maths. With many rows, the norms are launches of their own, in `raven.rs`.

use ruminate_engine::{Buffer, Tensor};
use ruminate_shaders::matmul::{Input, Normed, Output, RECORD_ROWS, Record};
use ruminate_shaders::norm::{plain_record, record, rms_norm_from, rms_norm_variants};

use super::loader::Loader;
use super::raven::{Block, Pass, Raven};
use super::resident::Matrix;
use crate::error::Error;

/// Weights of norms as records ask for them, one behind the other: of the outer norm of the last record, of the outer norm of the
/// record that is made, and the product of that one's outer and inner norm.
pub(super) struct Chain {
    /// For the attention's sum: `norm_4` of the last block (not looked at if there is none), `norm_2`, and `norm_2·norm_3`.
    attention: Buffer,
    /// For the MLP's sum: `norm_2`, `norm_4`, and `norm_4·norm_1` of the next block (`norm_4` alone if there is none).
    mlp: Buffer,
}

impl Chain {
    /// The chains of blocks that follow each other, given the values of their norms, padded like activations.
    pub(super) fn of(loader: &Loader<'_>, kind: &str, norms: &[[Vec<f32>; 4]]) -> Result<Vec<Self>, Error> {
        let product = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).collect::<Vec<f32>>();
        (0..norms.len())
            .map(|i| {
                let [norm_1, norm_2, norm_3, norm_4] = &norms[i];
                let before = i.checked_sub(1).map_or(norm_1, |last| &norms[last][3]);
                let behind = norms.get(i + 1).map_or_else(|| norm_4.clone(), |next| product(norm_4, &next[0]));
                let attention = [before.as_slice(), norm_2, &product(norm_2, norm_3)].concat();
                let mlp = [norm_2.as_slice(), norm_4, &behind].concat();
                Ok(Self {
                    attention: loader.put(&format!("{kind}.{i} norms of attention"), attention)?,
                    mlp: loader.put(&format!("{kind}.{i} norms of the MLP"), mlp)?,
                })
            })
            .collect()
    }
}

/// A record and how it is to be normed.
#[derive(Clone, Copy)]
pub(super) struct Sum {
    tensor: Tensor,
    normed: Normed,
}

impl Pass<'_> {
    /// Whether blocks are computed by records. A trace wants every norm for itself.
    pub(super) fn by_records(&self) -> bool {
        !self.trace && self.shape.rows <= RECORD_ROWS
    }

    fn record(&mut self, name: &str, shape: Record) -> Tensor {
        self.scratch(name, shape.bytes(self.shape.rows))
    }
}

impl Raven {
    /// A record of plain rows, for the first norm of `block`.
    pub(super) fn begin_record(&self, pass: &mut Pass<'_>, block: &Block, x: Tensor) -> Result<Sum, Error> {
        let shape = plain_record(self.config.n_embd);
        let tensor = pass.record(&format!("{}.record", block.name), shape);
        let (rows, w) = (pass.rows(), pass.graph.import(&block.norms[0]));
        pass.graph.launch(record(&pass.device.caps(), pass.shape.rows, self.config.n_embd), &[rows, x, w, tensor])?;
        Ok(self.sum(tensor, shape, false))
    }

    /// The adapter's output as a record, for the first norm of `block`.
    pub(super) fn adapt_record(&self, pass: &mut Pass<'_>, block: &Block, inputs: [Tensor; 2]) -> Result<Sum, Error> {
        let shape = Record::of(self.config.n_embd, self.adapter.form());
        let tensor = pass.record("adapter.record", shape);
        let all = (pass.rows(), pass.shape.rows);
        let [state, embedding] = inputs;
        let w = pass.graph.import(&block.norms[0]);
        let flow = (Input::Concat, Output::First, None);
        self.adapter.apply_flow(pass.graph, pass.device, all, flow, &[state, embedding, w], tensor)?;
        Ok(self.sum(tensor, shape, false))
    }

    /// Applies blocks one after the other; the last one's norm goes to `out`.
    pub(super) fn chain(&self, pass: &mut Pass<'_>, blocks: &[Block], mut x: Sum, out: Tensor) -> Result<(), Error> {
        for block in blocks {
            x = self.block_of_records(pass, block, x)?;
        }
        let (n, rows) = (self.config.n_embd, pass.rows());
        let Some(last) = blocks.last() else { return Ok(()) };
        let w = pass.graph.import(&last.norms[3]);
        let (floats, eps) = (x.normed.record.floats(), x.normed.eps);
        let launch = rms_norm_from(&pass.device.caps(), pass.shape.rows, n, floats, eps);
        let variants = rms_norm_variants(&pass.device.caps(), launch);
        Ok(pass.graph.launch(pass.device.pick(variants), &[rows, x.tensor, w, out])?)
    }

    /// `x = norm_2(attn(norm_1(x)) + x); out = norm_4(mlp(norm_3(x)) + x)`, without the norms at either end.
    fn block_of_records(&self, pass: &mut Pass<'_>, block: &Block, x: Sum) -> Result<Sum, Error> {
        let (config, all) = (&self.config, (pass.rows(), pass.shape.rows));
        let site = |part: &str| format!("{}.{part}", block.name);
        let qkv = pass.activation(&site("attn.Wqkv"), config.qkv_rows());
        let taken = (Input::Normed, Output::Store, Some(x.normed));
        block.qkv.apply_flow(pass.graph, pass.device, all, taken, &[x.tensor], qkv)?;
        let attended = self.attend(pass, block, qkv)?;
        let middle = self.add(pass, (&block.proj, &site("attn.sum")), attended, x, &block.chain.attention)?;

        let hidden = pass.activation(&site("mlp.hidden"), config.intermediate_size);
        let taken = (Input::Normed, Output::GateUp, Some(middle.normed));
        block.fc.apply_flow(pass.graph, pass.device, all, taken, &[middle.tensor], hidden)?;
        self.add(pass, (&block.mlp_proj, &site("mlp.sum")), hidden, middle, &block.chain.mlp)
    }

    /// `W·x` plus the outer norm of the last record, as a record.
    fn add(
        &self,
        pass: &mut Pass<'_>,
        (matrix, name): (&Matrix, &str),
        x: Tensor,
        last: Sum,
        norms: &Buffer,
    ) -> Result<Sum, Error> {
        let shape = Record::of(self.config.n_embd, matrix.form());
        let tensor = pass.record(name, shape);
        let (all, norms) = ((pass.rows(), pass.shape.rows), pass.graph.import(norms));
        let flow = (Input::Plain, Output::Sum, Some(last.normed));
        matrix.apply_flow(pass.graph, pass.device, all, flow, &[x, last.tensor, norms], tensor)?;
        Ok(self.sum(tensor, shape, true))
    }

    fn sum(&self, tensor: Tensor, record: Record, outer: bool) -> Sum {
        Sum { tensor, normed: Normed { record, outer, eps: self.config.norm_eps as f32 } }
    }
}
