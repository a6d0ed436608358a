//! A recording in progress, and the buffers that it works on.

use ruminate_engine::{Buffer, Device, Graph, Tensor};
use ruminate_shaders::activation_bytes;
use ruminate_shaders::attention::fresh_pays;
use ruminate_shaders::matmul::fuses;
use ruminate_shaders::norm::{rms_norm_from, rms_norm_variants};

use crate::error::Error;
use crate::kv::KvCache;

/// Buffers that a pass works on; they outlive the plans.
pub(crate) struct Sites {
    /// Row table.
    pub(crate) rows: Buffer,
    /// Embedding that enters the loop: the output of the layers before it `[rows, width]`.
    pub(crate) embedding: Buffer,
    /// Recurrent state `[rows, width]`.
    pub(crate) state: Buffer,
    /// Table indices of the rows that are read out.
    pub(crate) picked: Buffer,
    /// Logits of the rows that are read out `[outputs, vocab]`.
    pub(crate) logits: Buffer,
}

/// Numbers of rows in a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ReadOut {
    /// Rows of the table.
    pub(crate) rows: u32,
    /// Rows that are read out.
    pub(crate) outputs: u32,
}

/// A recording in progress: everything that the launches of a pass share.
pub(crate) struct Pass<'a> {
    pub(crate) graph: &'a mut Graph,
    pub(crate) device: &'a Device,
    pub(crate) kv: &'a KvCache,
    pub(crate) sequences: &'a Buffer,
    pub(crate) sites: &'a Sites,
    pub(crate) shape: ReadOut,
    /// Noise table, if states get noise before every step.
    pub(crate) noise: Option<&'a Buffer>,
    /// Whether every intermediate is kept under its name in the checkpoint.
    pub(crate) trace: bool,
}

impl Pass<'_> {
    pub(crate) fn rows(&mut self) -> Tensor {
        self.graph.import(&self.sites.rows)
    }

    /// The row table and its number of rows.
    pub(super) fn all(&mut self) -> (Tensor, u32) {
        (self.rows(), self.shape.rows)
    }

    /// Allocates a scratch activation `[rows, width]`, named as in the checkpoint.
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

    /// Records `y = norm(x)` for rows that are `x_floats` apart.
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

    /// Whether norms are folded into the neighboring matmuls. With few rows that is faster, because a launch costs more than a norm's arithmetic. A trace needs
    /// every norm's result, so it folds none.
    pub(super) fn folds(&self, width: u32) -> bool {
        !self.trace && fuses(&self.device.caps(), self.shape.rows, width)
    }

    /// Whether attention takes a single launch: the pass has one row, and the device is faster that way. A trace needs the rotated queries, so it uses separate
    /// launches.
    pub(super) fn attends_at_once(&self) -> bool {
        !self.trace && self.shape.rows == 1 && fresh_pays(&self.device.caps())
    }
}
