//! Looped model: its weights, and the launches that compute it for the rows of a pass.
//!
//! ```text
//! e = embedding[token] · scale;  for block in before: e = block(e)
//! s = drawn at random, or e
//! repeat r times:
//!     s = adapter(concat[s, e]), if there is one
//!     for block in core: s = block(s)
//!     s = norm(s), if states are normed between steps
//! x = norm(s), if states are normed after the loop;  for block in after: x = block(x)
//! logits = head(norm(x)), or head(x) if the loop ends with the norm
//! ```
//!
//! Every activation is `[rows, width]`. The row table in device memory gives each row's sequence, position and step.

use ruminate_engine::{Buffer, Count, Device, Tensor};
use ruminate_shaders::embed::{Embed, embed, select};
use ruminate_shaders::matmul::Output;
use ruminate_shaders::recur::{advance, init_state, noise, start_state};
use ruminate_shaders::{activation_bytes, stride};

use super::blocks::{self, Block, Stream};
use super::loader::{Loader, Weights};
use super::manifest::{Role, Section};
use super::pass::{Pass, ReadOut};
use super::resident::Matrix;
use super::spec::{Spec, Start};
use crate::error::Error;
use crate::precision::Dtypes;

/// Weights of a model on a device.
pub(crate) struct Looped {
    pub(super) spec: Spec,
    embedding: Matrix,
    head: Option<Matrix>,
    adapter: Option<Matrix>,
    before: Vec<Block>,
    core: Vec<Block>,
    after: Vec<Block>,
    final_norm: Buffer,
    pub(super) gate: Option<Buffer>,
    /// Rotary table from the checkpoint, if stored: the weights were trained with its rounding.
    rotary: Option<Vec<f32>>,
    dtypes: Dtypes,
}

impl Looped {
    /// Loads the weights: matrices rounded to their group's dtype, vectors in f32. `done` is called with the number of bytes uploaded; an error from it cancels
    /// the load.
    pub(crate) fn load(
        device: &Device,
        spec: &Spec,
        weights: Weights<'_>,
        dtypes: Dtypes,
        done: &mut dyn FnMut(u64) -> Result<(), Error>,
    ) -> Result<Self, Error> {
        let manifest = spec.manifest();
        let mut loader = Loader { device, weights, dtypes, manifest: &manifest, done };
        let [before, core, after] = Section::ALL;
        let before = Block::load(&mut loader, spec, before)?;
        let core = Block::load(&mut loader, spec, core)?;
        let after = Block::load(&mut loader, spec, after)?;
        let mut matrix = |role| manifest.entry(role).map(|_| loader.matrix(role)).transpose();
        let (head, adapter) = (matrix(Role::Head)?, matrix(Role::Adapter)?);
        Ok(Self {
            embedding: loader.matrix(Role::Embedding)?,
            head,
            adapter,
            before,
            core,
            after,
            final_norm: loader.vector(Role::FinalNorm)?,
            gate: loader.gate()?,
            rotary: loader.stored_values(Role::RotaryTable)?,
            spec: spec.clone(),
            dtypes,
        })
    }

    /// Uploads the rotary table: cosine and sine per position and pair `[context, head_dim/2, 2]`.
    pub(crate) fn rotary(&self, device: &Device, context: u32) -> Result<Buffer, Error> {
        let computed;
        let values = context as usize * self.spec.head_dim as usize;
        let table = match self.rotary.as_ref().and_then(|stored| stored.get(..values)) {
            Some(stored) => stored,
            None => {
                computed = self.spec.rotary.table(self.spec.head_dim, context);
                &computed
            }
        };
        // A missing bias binds this buffer too, which must therefore not be empty.
        let bytes = (values as u64 * 4).max(16);
        let buffer = device.buffer("rotary table", bytes)?;
        device.write(&buffer, 0, bytemuck::cast_slice(table))?;
        Ok(buffer)
    }

    /// Bytes of all matrices on the device.
    pub(crate) fn bytes(&self) -> u64 {
        let blocks = self.before.iter().chain(&self.core).chain(&self.after);
        let others = [Some(&self.embedding), self.head.as_ref(), self.adapter.as_ref()];
        blocks.map(Block::bytes).sum::<u64>() + others.into_iter().flatten().map(Matrix::bytes).sum::<u64>()
    }

    /// Number of tokens, without the padding rows of the embedding.
    pub(crate) const fn vocab(&self) -> u32 {
        self.spec.vocab
    }

    /// Dtypes of the matrices.
    pub(crate) const fn dtypes(&self) -> Dtypes {
        self.dtypes
    }

    /// Embeds the rows' tokens, applies the layers before the loop, and initializes the states of rows that begin.
    pub(crate) fn begin(&self, pass: &mut Pass<'_>) -> Result<(), Error> {
        let rows = pass.rows();
        let n = self.spec.width;
        let embedding = pass.graph.import(&pass.sites.embedding);
        let x = if self.before.is_empty() { embedding } else { pass.activation("embedding", n) };
        for (first, count, buffer) in self.embedding.parts() {
            let scale = self.spec.embed_scale as f32;
            let shape = Embed { rows: pass.shape.rows, n, first, count, form: self.embedding.form(), scale };
            let w = pass.graph.import(buffer);
            pass.graph.launch(embed(shape), &[rows, x, w])?;
        }
        let stream = Stream::begin(pass, &self.spec, self.before.first(), x)?;
        blocks::apply(pass, &self.spec, &self.before, stream, embedding)?;
        let state = pass.graph.import(&pass.sites.state);
        if self.spec.start == Start::Embedding {
            return Ok(pass.graph.launch(start_state(pass.shape.rows, n), &[rows, embedding, state])?);
        }
        let sequences = pass.graph.import(pass.sequences);
        Ok(pass.graph.launch(init_state(pass.shape.rows, pass.kv.sequences(), n), &[rows, sequences, state])?)
    }

    /// Applies the core block; `steps` gives the count when the plan is executed.
    pub(crate) fn iterate(&self, pass: &mut Pass<'_>, steps: Count) -> Result<(), Error> {
        let Pass { device, kv, sequences, sites, shape, noise, trace, .. } = *pass;
        pass.graph.repeat(steps, |graph| {
            self.plain_step(&mut Pass { graph, device, kv, sequences, sites, shape, noise, trace })
        })
    }

    /// Records one step, then advances the rows' step counters.
    pub(super) fn plain_step(&self, pass: &mut Pass<'_>) -> Result<(), Error> {
        self.step(pass)?;
        let rows = pass.rows();
        Ok(pass.graph.launch(advance(pass.shape.rows), &[rows])?)
    }

    /// Records one step without advancing the rows' step counters.
    pub(super) fn step(&self, pass: &mut Pass<'_>) -> Result<(), Error> {
        let (rows, spec) = (pass.rows(), &self.spec);
        let n = spec.width;
        let (state, embedding) = (pass.graph.import(&pass.sites.state), pass.graph.import(&pass.sites.embedding));
        if let (Some(stirs), Some(w)) = (pass.noise, self.noise_norm()) {
            let [sequences, stirs, w] = [pass.sequences, stirs, w].map(|table| pass.graph.import(table));
            let launch = noise(&pass.device.caps(), pass.shape.rows, pass.kv.sequences(), n, spec.norm_eps as f32);
            pass.graph.launch(launch, &[rows, sequences, stirs, w, state])?;
        }
        let first = self.core.first();
        let names = spec.names();
        let x = match &self.adapter {
            Some(adapter) => Stream::adapt(pass, spec, (adapter, names.adapter), first, [state, embedding])?,
            None => Stream::begin(pass, spec, first, state)?,
        };
        if !spec.outer_norms.step {
            return blocks::apply(pass, spec, &self.core, x, state);
        }
        let out = pass.activation(&self.core.last().map_or_else(String::new, |last| last.name.clone()), n);
        blocks::apply(pass, spec, &self.core, x, out)?;
        let all = pass.all();
        pass.norm(all, (&self.final_norm, spec.norm_eps), (out, stride(n)), (state, n))
    }

    /// Norm weights applied to noisy states: those of the core's last norm, or else of the final norm.
    fn noise_norm(&self) -> Option<&Buffer> {
        self.core.last().and_then(Block::last_norm).or(Some(&self.final_norm))
    }

    /// Applies the layers after the loop and the head to the rows that are read out. Returns the states that enter those layers `[rows, width]`.
    pub(crate) fn finish(&self, pass: &mut Pass<'_>) -> Result<Tensor, Error> {
        let (rows, spec) = (pass.rows(), &self.spec);
        let (names, norm) = (spec.names(), (&self.final_norm, spec.norm_eps));
        let ReadOut { rows: count, outputs } = pass.shape;
        let n = spec.width;
        let mut x = pass.graph.import(&pass.sites.state);
        if spec.outer_norms.loop_end {
            let normed = pass.activation(names.final_norm, n);
            pass.norm((rows, count), norm, (x, stride(n)), (normed, n))?;
            x = normed;
        }
        let latents = x;
        if let Some(last) = self.after.last() {
            let out = pass.activation(&last.name, n);
            let stream = Stream::begin(pass, spec, self.after.first(), x)?;
            blocks::apply(pass, spec, &self.after, stream, out)?;
            x = out;
        }
        let headed = spec.outer_norms.head;
        let chosen = pass.graph.scratch(if headed { "select" } else { "head" }, activation_bytes(outputs, n));
        let (picked, logits) = (pass.graph.import(&pass.sites.picked), pass.graph.import(&pass.sites.logits));
        pass.graph.launch(select(count, outputs, n), &[rows, x, chosen, picked])?;
        let latent = if headed { pass.graph.scratch("head", activation_bytes(outputs, n)) } else { chosen };
        if pass.trace {
            pass.graph.keep(latent);
        }
        if headed {
            pass.norm((picked, outputs), norm, (chosen, stride(n)), (latent, n))?;
        }
        let head = self.head.as_ref().unwrap_or(&self.embedding);
        head.apply(pass.graph, pass.device, (picked, outputs), &[latent], Output::Store, logits)?;
        Ok(latents)
    }
}
