//! A recording in progress, and the buffers that it works on.

use ruminate_engine::{Buffer, Device, Graph, Tensor};
use ruminate_shaders::activation_bytes;
use ruminate_shaders::attention::fresh_pays;
use ruminate_shaders::matmul::FUSED_ROWS;
use ruminate_shaders::norm::{rms_norm_from, rms_norm_variants};

use crate::error::Error;
use crate::kv::KvCache;

/// The buffers that a pass works on; they outlive its plans.
pub(crate) struct Sites {
    /// Row table.
    pub(crate) rows: Buffer,
    /// What enters the loop: the output of the layers before it `[rows, width]`.
    pub(crate) embedding: Buffer,
    /// Recurrent state `[rows, width]`.
    pub(crate) state: Buffer,
    /// Table entries of the rows that are read out.
    pub(crate) picked: Buffer,
    /// Logits of the rows that are read out `[outputs, vocab]`.
    pub(crate) logits: Buffer,
}

/// How many rows take part and how many are read out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ReadOut {
    /// Rows of the table.
    pub(crate) rows: u32,
    /// Rows that are read out.
    pub(crate) outputs: u32,
}

/// A recording in progress: everything that the launches of one pass share.
pub(crate) struct Pass<'a> {
    pub(crate) graph: &'a mut Graph,
    pub(crate) device: &'a Device,
    pub(crate) kv: &'a KvCache,
    pub(crate) sequences: &'a Buffer,
    pub(crate) sites: &'a Sites,
    pub(crate) shape: ReadOut,
    /// The table of the noise that states get before every step, if any get some.
    pub(crate) noise: Option<&'a Buffer>,
    /// Keep every intermediate under its name in the checkpoint.
    pub(crate) trace: bool,
}

impl Pass<'_> {
    pub(crate) fn rows(&mut self) -> Tensor {
        self.graph.import(&self.sites.rows)
    }

    /// The table and the number of its rows.
    pub(super) fn all(&mut self) -> (Tensor, u32) {
        (self.rows(), self.shape.rows)
    }

    /// A scratch activation `[rows, width]`, named as in the checkpoint.
    pub(super) fn activation(&mut self, name: &str, width: u32) -> Tensor {
        self.scratch(name, activation_bytes(self.shape.rows, width))
    }

    pub(super) fn scratch(&mut self, name: &str, bytes: u64) -> Tensor {
        let tensor = self.graph.scratch(name, bytes);
        if self.trace {
            self.graph.keep(tensor);
        }
        tensor
    }

    /// `y = norm(x)` of rows that lie `x_floats` apart.
    pub(super) fn norm(
        &mut self,
        (rows, count): (Tensor, u32),
        (w, eps): (&Buffer, f64),
        (x, x_floats): (Tensor, u32),
        (y, width): (Tensor, u32),
    ) -> Result<(), Error> {
        let w = self.graph.import(w);
        let launch = rms_norm_from(&self.device.caps(), count, width, x_floats, eps as f32);
        let variants = rms_norm_variants(&self.device.caps(), launch);
        Ok(self.graph.launch(self.device.pick(variants), &[rows, x, w, y])?)
    }

    /// Whether norms are folded into the matmuls around them: that pays with few rows, where a launch costs more than what a norm computes. A trace wants
    /// every norm for itself.
    pub(super) fn folds(&self) -> bool {
        !self.trace && self.shape.rows <= FUSED_ROWS
    }

    /// Whether attention takes one launch: no other row of the sequence is in the pass, and the device gains by it. A trace wants the rotated
    /// queries for themselves.
    pub(super) fn attends_at_once(&self) -> bool {
        !self.trace && self.shape.rows == 1 && fresh_pays(&self.device.caps())
    }
}
