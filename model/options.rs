//! Options of loading, sessions and generation, with the defaults of the model and of its authors.

use std::fmt;
use std::sync::Arc;

use ruminate_shaders::attention::cache::{KV_DTYPES, KvShare, Lookup};
use ruminate_shaders::exit::Continuous;
use ruminate_shaders::matmul::Arithmetic;
use ruminate_shaders::{Dtype, Sequence};

use crate::arch::{Spec, Start};
use crate::cancel::CancelToken;
use crate::constraint::Constraint;
use crate::diffusion::Diffusion;
use crate::early_exit::Exit;
use crate::error::Error;
use crate::memory_budget::Need;
use crate::noise::Noise;
use crate::parallel_decoding::{Pipeline, Speculate};
use crate::precision::{Group, Precision};
use crate::sampling::{DRY_BREAKERS, Sampling};

/// Options for loading a model. Versions before 1.0 may add fields: end a literal with `..LoadOptions::default()`.
#[derive(Default)]
pub struct LoadOptions<'a> {
    /// Dtype of matrices on the device; by default that of the file, with F32 rounded to bf16. A quantized file keeps its dtype.
    pub dtype: Option<Dtype>,
    /// Groups of matrices that are stored in another dtype.
    pub keep: Vec<(Group, Dtype)>,
    /// Arithmetic mode of products with matrices. f16 is faster for prompts on most GPUs. int8 is faster for weights in blocks on GPUs with instructions for
    /// it, and cooperative matrices are faster for prompts on GPUs with units for them (see [`OpenOptions::cooperative`](crate::OpenOptions::cooperative)).
    /// These modes round products, except with matrices in f32, and change results by more than the rounding of bf16.
    pub products: Arithmetic,
    /// Expected session options. Their cache is included when the required memory is compared with the available memory, before anything is loaded.
    pub session: SessionOptions,
    /// Whether to load even if memory seems insufficient.
    pub overcommit: bool,
    /// Called before anything is loaded, with the device memory that model and session will need. If no context is set, the smallest one that a session gets is
    /// assumed.
    pub announce: Option<&'a mut dyn FnMut(&Need)>,
    /// Called during the upload with the bytes done and the bytes in total.
    pub progress: Option<&'a mut dyn FnMut(u64, u64)>,
    /// Token that cancels the load with [`Error::Cancelled`]; keep a clone for the thread or callback that cancels it. It is checked before every step of
    /// loading and after every block of at most 8 MiB, so a load ends within one read and one upload of that size.
    pub cancel: CancelToken,
}

impl LoadOptions<'_> {
    pub(crate) fn precision(&self) -> Precision {
        Precision { dtype: self.dtype, keep: self.keep.clone(), products: self.products }
    }
}

/// Options of a session. Versions before 1.0 may add fields: end a literal with `..SessionOptions::default()`.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
pub struct SessionOptions {
    /// Number of positions that the session can hold; by default the model's context, but at most 4,096 and what memory allows.
    pub context: Option<u32>,
    /// Steps per token that memory is planned for; by default the model's mean recurrence. Later calls may use more.
    pub steps: Option<u32>,
    /// Dtype of keys and values: `F32`, `Bf16` or `Q8`. `Q8` takes 8.5 bits per value, in blocks of 32 along the head with a common scale, quantized when they
    /// are computed. A context then needs little more than half the memory of bf16. On devices that keep the bf16 cache in textures (software drivers), q8 is
    /// much slower.
    pub kv_dtype: Dtype,
    /// Keys that a position offers to rows at steps that it has not stored.
    #[cfg_attr(feature = "serde", serde(rename = "kv_lookup"))]
    pub lookup: Lookup,
    /// Steps that share keys and values, which takes less memory.
    #[cfg_attr(feature = "serde", serde(rename = "kv_share"))]
    pub share: KvShare,
    /// Seed of sampling and noise, and of initial states unless [`Self::state_seed`] is set. The same seed gives the same tokens on the same device.
    pub seed: u64,
    /// Seed of initial states, if not [`Self::seed`]. Sequences with the same initial states can share what is computed for the same tokens, even if they
    /// sample differently: see [`BatchOptions::prefix_cache`](crate::BatchOptions::prefix_cache).
    pub state_seed: Option<u64>,
    /// Factor on the standard deviation of initial states, at most 1,000,000, so that all sums stay finite; 0 starts from zeros.
    pub init_scale: f32,
    /// Invariant mode: every sum is added in the same order, however many rows a pass has. A token's logits are then the same to the bit whether it is computed
    /// alone, together with other rows, as a draft or in verification. To that end, every pass has 8 rows.
    pub invariant: bool,
}

impl GenerateOptions {
    /// Checks options that need random initial states, which a model whose state starts as the token's embedding does not have.
    ///
    /// # Errors
    /// [`Error::Option`].
    pub(crate) fn check_start(&self, spec: &Spec) -> Result<(), Error> {
        let asked = [
            ("noise", self.noise.is_some()),
            ("continuous", self.continuous.is_some()),
            ("diffusion", self.diffusion.is_some()),
        ];
        match asked.into_iter().find(|(_, asked)| *asked && spec.start == Start::Embedding) {
            None => Ok(()),
            Some((name, _)) => {
                let allowed = "unset, because this model's initial state is the token's embedding, which this option would replace";
                Err(Error::Option { name, value: "set".to_owned(), allowed })
            }
        }
    }
}

impl SessionOptions {
    /// Seed of the initial states.
    pub(crate) fn seed_of_states(&self) -> u64 {
        self.state_seed.unwrap_or(self.seed)
    }

    /// Entry of a sequence with these options in the device's table.
    pub(crate) fn sequence(&self, spec: &Spec, steps: u32) -> Sequence {
        let deviation = spec.state_std() * f64::from(self.init_scale);
        let words = |seed: u64| [seed as u32, (seed >> 32) as u32];
        Sequence {
            seed: words(self.seed),
            state_seed: words(self.seed_of_states()),
            state_std: deviation as f32,
            steps,
            reserved: [0; 2],
        }
    }

    /// Checks the options that do not depend on a model.
    ///
    /// # Errors
    /// [`Error::Option`] for the first invalid value.
    pub(crate) fn validate(&self) -> Result<(), Error> {
        if !KV_DTYPES.contains(&self.kv_dtype) {
            let value = self.kv_dtype.name().to_owned();
            return Err(Error::Option { name: "kv_dtype", value, allowed: "f32, bf16 or q8" });
        }
        if self.share == KvShare::Steps(0) {
            return Err(Error::Option { name: "share", value: "0".to_owned(), allowed: "at least 1 step" });
        }
        if !(0.0..=1e6).contains(&self.init_scale) {
            let value = self.init_scale.to_string();
            return Err(Error::Option { name: "init_scale", value, allowed: "a number from 0 to 1000000" });
        }
        Ok(())
    }
}

impl Default for SessionOptions {
    fn default() -> Self {
        Self {
            context: None,
            steps: None,
            kv_dtype: Dtype::Bf16,
            lookup: Lookup::Latest,
            share: KvShare::None,
            seed: 0,
            state_seed: None,
            init_scale: 1.0,
            invariant: false,
        }
    }
}

/// Initial states of a pass.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum State<'a> {
    /// Drawn from the session's seed and the row's position, scaled by [`SessionOptions::init_scale`].
    #[default]
    Seeded,
    /// Given values `[rows, n_embd]`; zeros for a zero state.
    Given(&'a [f32]),
    /// State of the last row of the session's last pass, for a single row: continuous compute.
    Carried,
}

/// Function that returns the steps of a generated token by its index from 0.
#[derive(Clone)]
pub struct StepsOf(Arc<dyn Fn(u32) -> u32 + Send + Sync>);

impl StepsOf {
    /// Wraps a function.
    pub fn new(steps: impl Fn(u32) -> u32 + Send + Sync + 'static) -> Self {
        Self(Arc::new(steps))
    }

    pub(crate) fn steps(&self, token: u32) -> u32 {
        (self.0)(token)
    }
}

impl fmt::Debug for StepsOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StepsOf")
    }
}

/// Options of a generation. Versions before 1.0 may add fields: end a literal with `..GenerateOptions::default()`.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
pub struct GenerateOptions {
    /// Recurrence steps per token, at least 1; by default the model's mean recurrence.
    pub steps: Option<u32>,
    /// Steps for each generated token; the prompt uses [`Self::steps`].
    #[cfg_attr(feature = "serde", serde(skip))]
    pub steps_of: Option<StepsOf>,
    /// Early exit, before a token has had all its steps.
    pub exit: Option<Exit>,
    /// Whether tokens start from the state of the token before them. A generation without a new prompt ([`Prompt::Continue`](crate::Prompt::Continue)) starts
    /// from the last state of the previous generation, unless that was stopped when the device had already begun another token.
    pub continuous: Option<Continuous>,
    /// Speculative decoding: tokens are drafted at few steps and verified together.
    pub speculate: Option<Speculate>,
    /// Pipelined decoding: positions begin before earlier ones are finished.
    pub pipeline: Option<Pipeline>,
    /// Diffusion forcing: positions are iterated together before their tokens are final, which changes the text.
    pub diffusion: Option<Diffusion>,
    /// Noise added to states before every step.
    pub noise: Option<Noise>,
    /// Maximum number of tokens to generate; by default as many as the context allows. With 0, the prompt is computed but no token is chosen.
    pub max_tokens: Option<u32>,
    /// Maximum number of tokens in total, including those of the session and the prompt.
    pub max_length: Option<u32>,
    /// Number of tokens before an end token may be chosen.
    pub min_tokens: Option<u32>,
    /// Number of tokens in total, including those of the session and the prompt, before an end token may be chosen.
    pub min_length: Option<u32>,
    /// Sampling options.
    pub sampling: Sampling,
    /// Values added to the logits of tokens before all other edits: token id and value. Minus infinity bans a token, infinity forces it.
    #[cfg_attr(feature = "serde", serde(with = "crate::serialize::logit_bias"))]
    pub logit_bias: Vec<(u32, f32)>,
    /// Tokens banned as the first one.
    pub begin_suppress: Vec<u32>,
    /// Sequences of tokens that are never completed. They may begin in the prompt.
    pub bad_words: Vec<Vec<u32>>,
    /// Length of token sequences, at least 2, that must not occur twice in prompt and text. It cannot be combined with [`Dry`](crate::Dry), which uses the same
    /// penalty.
    pub no_repeat_ngram: Option<u32>,
    /// Forced first token, if exactly one token comes before it.
    pub forced_begin: Option<u32>,
    /// Candidates for the last token, one of which is forced when [`Self::max_tokens`] or [`Self::max_length`] is reached.
    pub forced_end: Vec<u32>,
    /// Grammar that the text follows. It cannot be combined with parallel decoding (`speculate`, `pipeline`, `diffusion`). Bans and biases apply to the tokens
    /// that it allows; a forced token counts only if it is one of them. A complete text ends generation, even before [`Self::min_tokens`].
    #[cfg_attr(feature = "serde", serde(skip))]
    pub constraint: Option<Constraint>,
    /// Texts that end a repeated passage for [`Dry`](crate::Dry); by default line break, colon, quotation mark and asterisk. Every token that contains one of
    /// them ends it, or, if none does, the last token of its text.
    pub dry_breakers: Vec<String>,
    /// Number of most likely tokens, at most [`MAX_LOGPROBS`](crate::MAX_LOGPROBS), whose log-probabilities are returned with each [`Piece`](crate::Piece),
    /// together with that of the chosen token. They are the model's own: a softmax of its logits at temperature 1, before bias, penalties and filters.
    pub logprobs: Option<u32>,
    /// In a [`Batch`](crate::Batch): whether to return the log-probability of every prompt token, with as many most likely tokens as [`Self::logprobs`] sets.
    /// Every prompt token is read out for this.
    pub prompt_logprobs: bool,
    /// Texts that stop generation. They are not part of the output. Special tokens match by their spelling, although they are not part of the output either:
    /// `<|end|>` stops at that token.
    pub stop: Vec<String>,
    /// Whether a text prompt at the start of a session is preceded by the tokens that the tokenizer puts before a text, such as the begin token: see
    /// [`Specials::Prompt`](crate::Specials::Prompt).
    pub add_bos: bool,
    /// Whether special tokens spelled out in a text prompt are encoded as such. Otherwise they are encoded as plain text.
    pub parse_special: bool,
    /// Tokens that end generation; by default the model's own.
    pub end_tokens: Option<Vec<u32>>,
}

impl GenerateOptions {
    /// Whether decoding computes ahead of the known tokens.
    #[must_use]
    pub const fn is_parallel(&self) -> bool {
        self.speculate.is_some() || self.pipeline.is_some() || self.diffusion.is_some()
    }
}

impl Default for GenerateOptions {
    fn default() -> Self {
        Self {
            steps: None,
            steps_of: None,
            exit: None,
            continuous: None,
            speculate: None,
            pipeline: None,
            diffusion: None,
            noise: None,
            max_tokens: None,
            max_length: None,
            min_tokens: None,
            min_length: None,
            sampling: Sampling::default(),
            logit_bias: Vec::new(),
            begin_suppress: Vec::new(),
            bad_words: Vec::new(),
            no_repeat_ngram: None,
            forced_begin: None,
            forced_end: Vec::new(),
            constraint: None,
            dry_breakers: DRY_BREAKERS.map(str::to_owned).to_vec(),
            logprobs: None,
            prompt_logprobs: false,
            stop: Vec::new(),
            add_bos: true,
            parse_special: true,
            end_tokens: None,
        }
    }
}
