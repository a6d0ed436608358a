//! Specification of a model: its sizes, its loop, and how its blocks are built.

use ruminate_shaders::{Caps, Workload};
use serde::Serialize;
use serde_json::Value;

use super::blocks;
use super::manifest::Manifest;
use super::stored::Stored;
use super::{Architecture, find};
use crate::error::Result;
use crate::fields::Fields;
use crate::precision::{Dtypes, Group};
use crate::source::Source;

/// Specification of a model, read from its `config.json` and the names of its tensors.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Spec {
    /// Name of the architecture: one of [`architectures`](crate::architectures).
    pub architecture: &'static str,
    /// Width of the residual stream: values per state.
    pub width: u32,
    /// Query heads.
    pub heads: u32,
    /// Key and value heads; divides `heads`.
    pub kv_heads: u32,
    /// Values per head: even, at most 128.
    pub head_dim: u32,
    /// Width inside the MLP.
    pub hidden: u32,
    /// Number of tokens.
    pub vocab: u32,
    /// Rows of the embedding matrix; at least `vocab`.
    pub padded_vocab: u32,
    /// Longest supported context, in positions.
    pub context: u32,
    /// Layers before, in and after the loop.
    pub layers: Layers,
    /// Steps of the loop.
    pub steps: Steps,
    /// Initial state.
    pub start: Start,
    /// Whether each step begins with the adapter, which mixes the embedding into the state.
    pub adapter: bool,
    /// Placement of the norms in a block.
    pub norms: Norms,
    /// Norms outside the blocks.
    pub outer_norms: OuterNorms,
    /// Added to the mean square in norms.
    pub norm_eps: f64,
    /// Whether queries and keys have a bias.
    pub qk_bias: bool,
    /// Whether queries and keys are normed over their whole width before rotation.
    pub qk_norm: bool,
    /// Rotary position embedding.
    pub rotary: Rotary,
    /// Whether there is a learned exit gate.
    pub gate: bool,
    /// Whether the head is the embedding matrix.
    pub tied_head: bool,
    /// Factor for embeddings and for drawn states.
    pub embed_scale: f64,
    /// Source of the ids of special tokens.
    pub special_ids: SpecialIds,
    /// Special tokens that end a text even if no file lists them as end tokens.
    pub stops: &'static [&'static str],
    /// Begin token, if `config.json` names one.
    pub bos: Option<u32>,
    /// End tokens, if `config.json` names any.
    pub eos: Vec<u32>,
    /// Padding token, if `config.json` names one.
    pub pad: Option<u32>,
    /// Dtype that `config.json` claims; the dtypes of the stored tensors count.
    pub torch_dtype: Option<String>,
    /// Notes on fields of `config.json` that have no effect by default, with the option that applies each, if there is one.
    #[serde(skip)]
    pub notes: Vec<String>,
}

/// Layers before, in and after the loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Layers {
    /// Applied once, before the loop: the prelude.
    pub before: u32,
    /// Applied at every step: the core.
    pub core: u32,
    /// Applied once, after the loop: the coda.
    pub after: u32,
}

impl Layers {
    /// Layers that are applied once.
    #[must_use]
    pub const fn outside(&self) -> u32 {
        self.before + self.after
    }

    /// Number of layers in all sections.
    #[must_use]
    pub const fn all(&self) -> u32 {
        self.before + self.core + self.after
    }
}

/// Number of steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Steps {
    /// Default: the number that the model was trained for, on average or always.
    pub default: u32,
    /// Largest useful number, if more steps are known to degrade the text.
    pub most_useful: Option<u32>,
}

/// Initial state.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Start {
    /// Drawn from a normal distribution of this standard deviation, truncated at three standard deviations, times `embed_scale`.
    Drawn {
        /// Standard deviation before scaling.
        std: f64,
    },
    /// The token's embedding, which enters the loop in no other way.
    Embedding,
}

/// Placement of the norms in a block. Its two sublayers, attention and MLP, have the same norms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Norms {
    /// Whether the input of a sublayer is normed.
    pub pre: bool,
    /// Norm after a sublayer.
    pub post: PostNorm,
}

/// Norm after a sublayer f of x.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum PostNorm {
    /// No norm: `x + f(x)`.
    None,
    /// Norm of the sum: `norm(x + f(x))`.
    Sum,
    /// Norm of the sublayer's output: `x + norm(f(x))`.
    Output,
}

/// Norms outside the blocks. All of them share the weights of the final norm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct OuterNorms {
    /// Whether the state is normed at the end of every step.
    pub step: bool,
    /// Whether the state is normed between the loop and the layers after it.
    pub loop_end: bool,
    /// Whether the output of those layers is normed before the head.
    pub head: bool,
}

/// Source of the ids of special tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum SpecialIds {
    /// The configuration files, else the tokenizer's files.
    Files,
    /// The tokenizer's files, because the configuration files hold the ids of another model.
    Tokenizer,
}

/// Rotary position embedding: each head's values are rotated in pairs, by an angle proportional to the position.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Rotary {
    /// Base of the frequencies.
    pub base: f64,
    /// Pairing of the values of a head.
    pub pairs: Pairs,
    /// Scaling of the frequencies for longer contexts.
    pub scaling: Option<Llama3Scaling>,
}

/// Pairing of the values of a head for rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Pairs {
    /// Values 2i and 2i + 1.
    Adjacent,
    /// Values i and i + head_dim/2.
    Halves,
}

/// The scaling of Llama 3: slow frequencies are divided by a factor, fast ones stay, and those between are blended.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Llama3Scaling {
    /// Divisor of slow frequencies.
    pub factor: f64,
    /// Wavelengths above `original_context / low_freq_factor` are slow.
    pub low_freq_factor: f64,
    /// Wavelengths below `original_context / high_freq_factor` are fast.
    pub high_freq_factor: f64,
    /// Context length of the original training, in positions.
    pub original_context: f64,
}

impl Rotary {
    /// Cosine and sine per position and pair of values `[context, head_dim/2, 2]`, computed in f32 as in the authors' code.
    #[must_use]
    pub fn table(&self, head_dim: u32, context: u32) -> Vec<f32> {
        let frequencies: Vec<f32> = (0..head_dim / 2).map(|pair| self.frequency(head_dim, pair)).collect();
        let mut table = Vec::with_capacity(context as usize * head_dim as usize);
        for position in 0..context {
            let angles = frequencies.iter().map(|frequency| position as f32 * frequency);
            table.extend(angles.flat_map(|angle| [angle.cos(), angle.sin()]));
        }
        table
    }

    /// Radians per position of a pair.
    fn frequency(&self, head_dim: u32, pair: u32) -> f32 {
        let plain = 1.0 / (self.base as f32).powf(2.0 * pair as f32 / head_dim as f32);
        self.scaling.map_or(plain, |scaling| scaling.apply(plain))
    }
}

impl Llama3Scaling {
    fn apply(&self, frequency: f32) -> f32 {
        let [factor, low, high, original] =
            [self.factor, self.low_freq_factor, self.high_freq_factor, self.original_context].map(|it| it as f32);
        let wavelength = 2.0 * std::f32::consts::PI / frequency;
        if wavelength < original / high {
            frequency
        } else if wavelength > original / low {
            frequency / factor
        } else {
            let kept = (original / wavelength - low) / (high - low);
            (1.0 - kept) * frequency / factor + kept * frequency
        }
    }
}

impl Spec {
    /// Reads `config.json`, and the names of the stored tensors if the file does not distinguish two architectures.
    ///
    /// # Errors
    /// Name the field, its value and what is supported.
    pub fn open(source: &Source) -> Result<Self> {
        let name = "config.json";
        let fields = Fields { file: source.describe(name), value: source.json(name)? };
        find(&fields)?.parse(&fields, &Stored::of(source))
    }

    /// Parses the contents of a `config.json` without a checkpoint; `file` names it in messages.
    ///
    /// # Errors
    /// See [`Self::open`].
    pub fn from_value(file: &str, value: Value) -> Result<Self> {
        let fields = Fields { file: file.to_owned(), value };
        find(&fields)?.parse(&fields, &Stored::nothing())
    }

    /// The architecture.
    pub(crate) fn arch(&self) -> &'static dyn Architecture {
        super::named(self.architecture)
    }

    /// Manifest: every tensor of the model and its role.
    pub(crate) fn manifest(&self) -> Manifest {
        self.arch().manifest(self)
    }

    /// Standard deviation of the initial states; 0 if they are not drawn.
    #[must_use]
    pub const fn state_std(&self) -> f64 {
        match self.start {
            Start::Drawn { std } => std * self.embed_scale,
            Start::Embedding => 0.0,
        }
    }

    /// Default number of steps for a draft: an eighth of all steps if states are drawn, else half.
    #[must_use]
    pub const fn steps_of_draft(&self, steps: u32) -> u32 {
        match self.start {
            Start::Drawn { .. } => steps.div_ceil(8),
            Start::Embedding => steps.div_ceil(2),
        }
    }

    /// Rows of queries, keys and values together.
    #[must_use]
    pub const fn qkv_rows(&self) -> u32 {
        (self.heads + 2 * self.kv_heads) * self.head_dim
    }

    /// Sizes of this model's launches in passes of `rows` rows, with at most `positions` keys and matrices cut to `most_weight_rows` rows in the core's dtype.
    pub fn workload(
        &self,
        dtypes: impl Into<Dtypes>,
        rows: u32,
        positions: u32,
        most_weight_rows: u32,
        caps: Caps,
    ) -> Workload {
        let dtypes = dtypes.into();
        Workload {
            n_embd: self.width,
            heads: self.heads,
            kv_heads: self.kv_heads,
            head_dim: self.head_dim,
            hidden: self.hidden,
            vocab: self.padded_vocab,
            products: blocks::products(self, rows, &caps),
            positions: positions.min(self.context),
            dtype: dtypes.of(Group::Core),
            arithmetic: dtypes.products(),
            rows,
            most_weight_rows,
            caps,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The frequencies of Llama 3.2: base 500,000, factor 32, original context 8,192.
    #[test]
    fn llama3_scaling_leaves_fast_frequencies_and_slows_slow_ones() {
        let scaling =
            Llama3Scaling { factor: 32.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original_context: 8192.0 };
        let plain = Rotary { base: 500_000.0, pairs: Pairs::Halves, scaling: None };
        let scaled = Rotary { scaling: Some(scaling), ..plain };
        let ratio = |pair| plain.frequency(64, pair) / scaled.frequency(64, pair);
        assert_eq!(ratio(0), 1.0);
        assert!((ratio(31) - 32.0).abs() < 1e-3, "{}", ratio(31));
        // Values of transformers' `_compute_llama3_parameters`.
        for (pair, expected) in [(14, 3.211_446e-3), (15, 1.290_548e-3), (16, 4.295_567e-4), (18, 1.946_164e-5)] {
            let found = scaled.frequency(64, pair);
            assert!((found / expected - 1.0).abs() < 1e-5, "pair {pair}: {found}");
        }
        let between = (1..31).map(ratio).filter(|ratio| (1.001..31.99).contains(ratio)).count();
        assert!(between > 0, "some frequencies are blended");
    }
}
