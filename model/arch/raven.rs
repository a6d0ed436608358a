//! Raven: the architecture of Huginn-0125 (Geiping et al., arXiv 2502.05171), on rows.
//!
//! ```text
//! e  = wte[token] · scale
//! for block in prelude: e = block(e)
//! s  = initial state
//! repeat r times:  s = adapter(concat[s, e]);  for block in core: s = block(s)
//! x  = ln_f(s)
//! for block in coda: x = block(x)
//! logits = lm_head(ln_f(x))
//!
//! block(x): x = norm_2(attn(norm_1(x)) + x);  x = norm_4(mlp(norm_3(x)) + x)
//! ```
//!
//! This file is the whole model: what is loaded, and which launches compute it. Every activation is `[rows, width]`; the rows are
//! positions of sequences at steps, as the table in device memory says.

use ruminate_engine::{Buffer, Count, Device, Graph, Tensor};
use ruminate_shaders::attention::{
    Attention, RotaryKv, attention, attention_fresh, combine, fresh_pays, partial_bytes, preferred_splits, rotary_kv,
};
use ruminate_shaders::embed::{Embed, embed, select};
use ruminate_shaders::matmul::Output;
use ruminate_shaders::norm::{rms_norm, rms_norm_variants};
use ruminate_shaders::recur::{advance, init_state, noise};
use ruminate_shaders::{Dtype, activation_bytes, weight};

use super::fused::Chain;
use super::loader::{Loader, Weights};
use super::resident::{Layout, Matrix};
use crate::config::Config;
use crate::error::Error;
use crate::kv::KvCache;
use crate::precision::Dtypes;

/// Weights of the model, resident on a device.
pub(crate) struct Raven {
    pub(super) config: Config,
    wte: Matrix,
    head: Option<Matrix>,
    pub(super) adapter: Matrix,
    prelude: Vec<Block>,
    core: Vec<Block>,
    coda: Vec<Block>,
    ln_f: Buffer,
    freqs: Buffer,
    dtypes: Dtypes,
}

/// One sandwich block.
pub(super) struct Block {
    /// Its name in the checkpoint, and its place among the cache's layers of its kind.
    pub(super) name: String,
    layer: usize,
    recurrent: bool,
    pub(super) norms: [Buffer; 4],
    pub(super) chain: Chain,
    pub(super) qkv: Matrix,
    qk_bias: Option<Buffer>,
    pub(super) proj: Matrix,
    pub(super) fc: Matrix,
    pub(super) mlp_proj: Matrix,
}

/// The buffers that a pass works on; they outlive its plans.
pub(crate) struct Sites {
    /// Row table.
    pub(crate) rows: Buffer,
    /// Output of the prelude `[rows, n_embd]`.
    pub(crate) embedding: Buffer,
    /// Recurrent state `[rows, n_embd]`.
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

impl Raven {
    /// Loads the weights: matrices rounded to their group's dtype, vectors in f32. `done` hears of the bytes uploaded.
    pub(crate) fn load(
        device: &Device,
        config: &Config,
        weights: Weights<'_>,
        dtypes: Dtypes,
        done: &mut dyn FnMut(u64),
    ) -> Result<Self, Error> {
        let mut loader = Loader { device, weights, dtypes, done };
        let mut blocks = |kind: &str, count: u32, first: usize, recurrent| -> Result<Vec<Block>, Error> {
            let place = |i| (first + i, recurrent);
            let name = |i| format!("{kind}.{i}");
            let norms: Vec<_> =
                (0..count as usize).map(|i| Block::norms(&loader, &name(i))).collect::<Result<_, _>>()?;
            let chains = Chain::of(&loader, kind, &norms)?;
            (0..)
                .zip(chains.into_iter().zip(norms))
                .map(|(i, norms)| Block::load(&mut loader, name(i), place(i), config.qk_bias, norms))
                .collect()
        };
        let prelude = blocks("prelude", config.n_layers_in_prelude, 0, false)?;
        let core = blocks("core_block", config.n_layers_in_recurrent_block, 0, true)?;
        let coda = blocks("coda", config.n_layers_in_coda, prelude.len(), false)?;
        let head = if config.tie_embeddings { None } else { Some(loader.matrix("lm_head.weight", Layout::Plain)?) };
        Ok(Self {
            wte: loader.matrix("transformer.wte.weight", Layout::Plain)?,
            head,
            adapter: loader.matrix("transformer.adapter.weight", Layout::Halves)?,
            prelude,
            core,
            coda,
            ln_f: loader.vector("transformer.ln_f.weight")?,
            freqs: freqs(&mut loader, config)?,
            config: config.clone(),
            dtypes,
        })
    }

    /// Bytes of all matrices on the device.
    pub(crate) fn bytes(&self) -> u64 {
        let blocks = self.prelude.iter().chain(&self.core).chain(&self.coda);
        let others = [Some(&self.wte), self.head.as_ref(), Some(&self.adapter)];
        blocks.map(Block::bytes).sum::<u64>() + others.into_iter().flatten().map(Matrix::bytes).sum::<u64>()
    }

    /// Tokens that the model knows, without what pads the table.
    pub(crate) const fn vocab(&self) -> u32 {
        self.config.vocab_size
    }

    /// How the matrices are stored.
    pub(crate) const fn dtypes(&self) -> Dtypes {
        self.dtypes
    }

    /// Embeds the rows' tokens, applies the prelude, and draws the initial states that are to be drawn.
    pub(crate) fn begin(&self, pass: &mut Pass<'_>) -> Result<(), Error> {
        let rows = pass.rows();
        let n = self.config.n_embd;
        let embedding = pass.graph.import(&pass.sites.embedding);
        let x = if self.prelude.is_empty() { embedding } else { pass.activation("wte", n) };
        for (first, count, buffer) in self.wte.parts() {
            let scale = self.config.embed_scale as f32;
            let shape = Embed { rows: pass.shape.rows, n, first, count, form: self.wte.form(), scale };
            let w = pass.graph.import(buffer);
            pass.graph.launch(embed(shape), &[rows, x, w])?;
        }
        self.blocks(pass, &self.prelude, x, embedding)?;
        let (sequences, state) = (pass.graph.import(pass.sequences), pass.graph.import(&pass.sites.state));
        Ok(pass.graph.launch(init_state(pass.shape.rows, pass.kv.sequences(), n), &[rows, sequences, state])?)
    }

    /// Applies the core block as often as `steps` says when the plan is executed.
    pub(crate) fn iterate(&self, pass: &mut Pass<'_>, steps: Count) -> Result<(), Error> {
        let Pass { device, kv, sequences, sites, shape, noise, trace, .. } = *pass;
        pass.graph.repeat(steps, |graph| {
            self.plain_step(&mut Pass { graph, device, kv, sequences, sites, shape, noise, trace })
        })
    }

    /// A step, and the rows' counters.
    pub(super) fn plain_step(&self, pass: &mut Pass<'_>) -> Result<(), Error> {
        self.step(pass)?;
        let rows = pass.rows();
        Ok(pass.graph.launch(advance(pass.shape.rows), &[rows])?)
    }

    /// One step, up to the rows' counters: the adapter mixes the embedding into the state, the core block refines it.
    pub(super) fn step(&self, pass: &mut Pass<'_>) -> Result<(), Error> {
        let rows = pass.rows();
        let n = self.config.n_embd;
        let (state, embedding) = (pass.graph.import(&pass.sites.state), pass.graph.import(&pass.sites.embedding));
        if let (Some(stirs), Some(last)) = (pass.noise, self.core.last()) {
            let [sequences, stirs, w] = [pass.sequences, stirs, &last.norms[3]].map(|table| pass.graph.import(table));
            let eps = self.config.norm_eps as f32;
            let launch = noise(&pass.device.caps(), pass.shape.rows, pass.kv.sequences(), n, eps);
            pass.graph.launch(launch, &[rows, sequences, stirs, w, state])?;
        }
        match self.core.first().filter(|_| pass.by_records()) {
            Some(first) => {
                let x = self.adapt_record(pass, first, [state, embedding])?;
                self.chain(pass, &self.core, x, state)
            }
            None => {
                let all = (rows, pass.shape.rows);
                let x = pass.activation("adapter", n);
                self.adapter.apply(pass.graph, pass.device, all, &[state, embedding], Output::Store, x)?;
                self.blocks(pass, &self.core, x, state)
            }
        }
    }

    /// Applies the final norm, the coda, the norm again and the head, to the rows that are read out. Gives the normed states `[rows, n_embd]`.
    pub(crate) fn finish(&self, pass: &mut Pass<'_>) -> Result<Tensor, Error> {
        let rows = pass.rows();
        let ReadOut { rows: count, outputs } = pass.shape;
        let n = self.config.n_embd;
        let state = pass.graph.import(&pass.sites.state);
        let normed = pass.activation("ln_f", n);
        self.norm(pass, (rows, count), &self.ln_f, state, normed)?;
        let mut x = normed;
        if let Some(last) = self.coda.last() {
            let out = pass.activation(&last.name, n);
            self.blocks(pass, &self.coda, x, out)?;
            x = out;
        }
        let chosen = pass.graph.scratch("select", activation_bytes(outputs, n));
        let (picked, logits) = (pass.graph.import(&pass.sites.picked), pass.graph.import(&pass.sites.logits));
        pass.graph.launch(select(count, outputs, n), &[rows, x, chosen, picked])?;
        let latent = pass.graph.scratch("head", activation_bytes(outputs, n));
        if pass.trace {
            pass.graph.keep(latent);
        }
        self.norm(pass, (picked, outputs), &self.ln_f, chosen, latent)?;
        let head = self.head.as_ref().unwrap_or(&self.wte);
        head.apply(pass.graph, pass.device, (picked, outputs), &[latent], Output::Store, logits)?;
        Ok(normed)
    }

    /// Applies blocks one after the other to plain rows.
    fn blocks(&self, pass: &mut Pass<'_>, blocks: &[Block], mut x: Tensor, out: Tensor) -> Result<(), Error> {
        if let Some(first) = blocks.first().filter(|_| pass.by_records()) {
            let x = self.begin_record(pass, first, x)?;
            return self.chain(pass, blocks, x, out);
        }
        for (i, block) in blocks.iter().enumerate() {
            let y = if i + 1 == blocks.len() { out } else { pass.activation(&block.name, self.config.n_embd) };
            self.block(pass, block, x, y)?;
            x = y;
        }
        Ok(())
    }

    /// `x = norm_2(attn(norm_1(x)) + x); out = norm_4(mlp(norm_3(x)) + x)`.
    fn block(&self, pass: &mut Pass<'_>, block: &Block, x: Tensor, out: Tensor) -> Result<(), Error> {
        let config = &self.config;
        let (n, all) = (config.n_embd, (pass.rows(), pass.shape.rows));
        let site = |part: &str| format!("{}.{part}", block.name);

        let normed = pass.activation(&site("norm_1"), n);
        self.norm(pass, all, &block.norms[0], x, normed)?;
        let qkv = pass.activation(&site("attn.Wqkv"), config.qkv_rows());
        block.qkv.apply(pass.graph, pass.device, all, &[normed], Output::Store, qkv)?;
        let attended = self.attend(pass, block, qkv)?;
        let sum = pass.activation(&site("attn.sum"), n);
        block.proj.apply(pass.graph, pass.device, all, &[attended, x], Output::Residual, sum)?;
        let middle = pass.activation(&site("norm_2"), n);
        self.norm(pass, all, &block.norms[1], sum, middle)?;

        let normed = pass.activation(&site("norm_3"), n);
        self.norm(pass, all, &block.norms[2], middle, normed)?;
        let hidden = pass.activation(&site("mlp.hidden"), config.intermediate_size);
        block.fc.apply(pass.graph, pass.device, all, &[normed], Output::GateUp, hidden)?;
        let sum = pass.activation(&site("mlp.sum"), n);
        block.mlp_proj.apply(pass.graph, pass.device, all, &[hidden, middle], Output::Residual, sum)?;
        if pass.trace {
            // What the fused launches hide, computed once more on its own.
            let plain = [
                (&block.proj, "attn.proj", attended, n),
                (&block.fc, "mlp.fc", normed, 2 * config.intermediate_size),
                (&block.mlp_proj, "mlp.proj", hidden, n),
            ];
            for (matrix, name, input, width) in plain {
                let y = pass.activation(&site(name), width);
                matrix.apply(pass.graph, pass.device, all, &[input], Output::Store, y)?;
            }
        }
        self.norm(pass, all, &block.norms[3], sum, out)
    }

    /// Attention of a block, from queries, keys and values up to but without the output projection.
    pub(super) fn attend(&self, pass: &mut Pass<'_>, block: &Block, qkv: Tensor) -> Result<Tensor, Error> {
        let config = &self.config;
        let (heads, head_dim, count) = (config.n_heads, config.head_dim, pass.shape.rows);
        let rows = pass.rows();
        let site = |part: &str| format!("{}.attn.{part}", block.name);
        let segments = pass.kv.segments(block.recurrent, block.layer);
        let chunks = segments.first().map_or(weight::chunks(head_dim), |(cache, _)| cache.chunks());
        let bias = pass.graph.import(block.qk_bias.as_ref().unwrap_or(&self.freqs));
        let freqs = pass.graph.import(&self.freqs);
        let (tables, depth) = (pass.graph.import(pass.kv.tables()), pass.graph.import(pass.kv.depth()));
        let biased = block.qk_bias.is_some();
        let marks = |segment| segment == 0 && block.recurrent && block.layer == 0;

        let splits = segments.first().map_or(1, |(cache, _)| preferred_splits(cache, count, heads));
        let parts = splits * u32::try_from(segments.len()).unwrap_or(u32::MAX);
        let shape = |segment, cache| {
            let segments = parts / splits;
            Attention { rows: count, heads, cache, splits, segment, segments }
        };
        let y = pass.activation(&site("values"), heads * head_dim);
        // All keys in one part need no other launch.
        let whole = segments.first().is_some_and(|(cache, _)| shape(0, *cache).whole());
        let partial = if whole { y } else { pass.scratch(&site("parts"), partial_bytes(count, heads, parts, chunks)) };
        if pass.attends_at_once() {
            for (segment, (cache, buffer)) in (0..).zip(&segments) {
                let kv = pass.graph.import(buffer);
                let launch = attention_fresh(&pass.device.caps(), shape(segment, *cache), biased, marks(segment));
                pass.graph.launch(launch, &[rows, qkv, bias, freqs, tables, depth, partial, kv])?;
            }
        } else {
            let q = pass.scratch(&site("q_rope"), Dtype::F32.matrix_bytes(count * heads, chunks));
            for (segment, (cache, buffer)) in (0..).zip(&segments) {
                let kv = pass.graph.import(buffer);
                let (write_q, mark_depth) = (segment == 0, marks(segment));
                let launch = rotary_kv(RotaryKv { rows: count, heads, cache: *cache, biased, write_q, mark_depth });
                pass.graph.launch(launch, &[rows, qkv, bias, freqs, tables, depth, q, kv])?;
            }
            for (segment, (cache, buffer)) in (0..).zip(&segments) {
                let kv = pass.graph.import(buffer);
                let launch = attention(&pass.device.caps(), shape(segment, *cache));
                let bound = [rows, q, tables, depth, partial, kv, kv];
                pass.graph.launch(launch.clone(), &bound[..launch.sizes.len()])?;
            }
        }
        if !whole {
            pass.graph.launch(combine(count, heads, (head_dim, chunks), parts), &[rows, partial, y])?;
        }
        Ok(y)
    }

    fn norm(
        &self,
        pass: &mut Pass<'_>,
        (rows, count): (Tensor, u32),
        w: &Buffer,
        x: Tensor,
        y: Tensor,
    ) -> Result<(), Error> {
        let w = pass.graph.import(w);
        let launch = rms_norm(&pass.device.caps(), count, self.config.n_embd, self.config.norm_eps as f32);
        let variants = rms_norm_variants(&pass.device.caps(), launch);
        Ok(pass.graph.launch(pass.device.pick(variants), &[rows, x, w, y])?)
    }
}

impl Block {
    fn bytes(&self) -> u64 {
        [&self.qkv, &self.proj, &self.fc, &self.mlp_proj].into_iter().map(Matrix::bytes).sum()
    }
}

impl Pass<'_> {
    pub(crate) fn rows(&mut self) -> Tensor {
        self.graph.import(&self.sites.rows)
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

    /// Whether attention takes one launch: no other row of the sequence is in the pass, and the device gains by it. A trace wants the rotated
    /// queries for themselves.
    fn attends_at_once(&self) -> bool {
        !self.trace && self.shape.rows == 1 && fresh_pays(&self.device.caps())
    }
}

impl Block {
    /// The values of its norms, padded like activations.
    fn norms(loader: &Loader<'_>, name: &str) -> Result<[Vec<f32>; 4], Error> {
        let norm = |i: usize| loader.values(&format!("transformer.{name}.norm_{i}.weight"));
        Ok([norm(1)?, norm(2)?, norm(3)?, norm(4)?])
    }

    fn load(
        loader: &mut Loader<'_>,
        name: String,
        (layer, recurrent): (usize, bool),
        biased: bool,
        (chain, norms): (Chain, [Vec<f32>; 4]),
    ) -> Result<Self, Error> {
        let site = |part: &str| format!("transformer.{name}.{part}");
        let mut names = (1..).map(|i| site(&format!("norm_{i}.weight")));
        let put = |values| loader.put(&names.next().unwrap_or_default(), values);
        let norms: Vec<Buffer> = norms.into_iter().map(put).collect::<Result<_, _>>()?;
        let norms = <[Buffer; 4]>::try_from(norms).expect("there are four");
        let qk_bias = if biased { Some(loader.vector(&site("attn.qk_bias"))?) } else { None };
        Ok(Self {
            norms,
            chain,
            qkv: loader.matrix(&site("attn.Wqkv.weight"), Layout::Plain)?,
            qk_bias,
            proj: loader.matrix(&site("attn.proj.weight"), Layout::Plain)?,
            fc: loader.matrix(&site("mlp.fc.weight"), Layout::Interleaved)?,
            mlp_proj: loader.matrix(&site("mlp.proj.weight"), Layout::Plain)?,
            layer,
            recurrent,
            name,
        })
    }
}

/// Cosine and sine per position and pair `[block_size, head_dim/2, 2]`: the stored table if there is one, because the
/// weights were trained with its rounding.
fn freqs(loader: &mut Loader<'_>, config: &Config) -> Result<Buffer, Error> {
    if let Some(stored) = loader.optional_vector("freqs_cis")? {
        return Ok(stored);
    }
    loader.put("freqs_cis", config.freqs_cis())
}
