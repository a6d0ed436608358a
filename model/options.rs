//! What a caller can choose, with the defaults of the model and of the authors.

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

/// How a model is loaded. Versions before 1.0 may add fields: end a literal with `..LoadOptions::default()`.
#[derive(Default)]
pub struct LoadOptions<'a> {
    /// How matrices are stored on the device; by default as in the file, F32 rounded to bf16. A quantised file is loaded as it is.
    pub dtype: Option<Dtype>,
    /// Groups of matrices that are stored otherwise.
    pub keep: Vec<(Group, Dtype)>,
    /// What products with matrices are made of: f16 is faster for prompts on most GPUs, whole numbers for weights in blocks on those that have
    /// instructions for them, cooperative matrices for prompts on those that have units for them (see [`OpenOptions::cooperative`](crate::OpenOptions::cooperative)).
    /// All round, but for matrices in f32, and change what is computed by more than the rounding of bf16.
    pub products: Arithmetic,
    /// The session that will be asked for, as far as it is known: its cache is counted when the need for memory is compared with what is
    /// there, before anything is loaded.
    pub session: SessionOptions,
    /// Load even if memory seems too small.
    pub overcommit: bool,
    /// Hears, before anything is loaded, what model and session will take of the device's memory. A context that was not asked for counts as the shortest
    /// one that a session gets.
    pub announce: Option<&'a mut dyn FnMut(&Need)>,
    /// Hears of the progress of the upload: bytes done, bytes in all.
    pub progress: Option<&'a mut dyn FnMut(u64, u64)>,
    /// Ends the load early, with [`Error::Cancelled`], once it is set: keep a clone for the thread or callback that does so. Looked at before every step
    /// of loading and after every block of at most 8 MiB, so a load ends within one read and one upload of that size.
    pub cancel: CancelToken,
}

impl LoadOptions<'_> {
    pub(crate) fn precision(&self) -> Precision {
        Precision { dtype: self.dtype, keep: self.keep.clone(), products: self.products }
    }
}

/// What a session holds. Versions before 1.0 may add fields: end a literal with `..SessionOptions::default()`.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
pub struct SessionOptions {
    /// Positions that the session can hold; by default as many as the model, but no more than 4,096 and than memory allows.
    pub context: Option<u32>,
    /// Steps per token that memory is planned for; by default the model's mean recurrence. More can be asked for later.
    pub steps: Option<u32>,
    /// How keys and values are stored: `F32`, `Bf16`, or `Q8`, 8.5 bits each, in blocks of 32 along the head with a common factor, as they are
    /// computed: then a context takes little more than half the memory. On devices whose bf16 cache lies in textures
    /// (software drivers), q8 is much slower.
    pub kv_dtype: Dtype,
    /// What a position offers to rows at steps that it has not stored.
    #[cfg_attr(feature = "serde", serde(rename = "kv_lookup"))]
    pub lookup: Lookup,
    /// Which steps share keys and values: that takes a part of the memory.
    #[cfg_attr(feature = "serde", serde(rename = "kv_share"))]
    pub share: KvShare,
    /// Seed of sampling and noise, and of initial states unless [`Self::state_seed`] is: the same seed gives the same tokens on the same device.
    pub seed: u64,
    /// Seed of initial states, if it is not [`Self::seed`]. Sequences whose states begin alike can share what is computed of the same tokens, although
    /// their draws differ: see [`BatchOptions::prefix_cache`](crate::BatchOptions::prefix_cache).
    pub state_seed: Option<u64>,
    /// Factor on the standard deviation of initial states, at most 1,000,000, so that all sums stay finite; 0 starts from zeros.
    pub init_scale: f32,
    /// Whether every sum is added in one order, however many rows a pass has: then a token's logits are the same to the bit alone, in company, drafted and
    /// verified. Every pass has the same number of rows for it, 8.
    pub invariant: bool,
}

impl GenerateOptions {
    /// Refuses what makes sense only of states that are drawn, where a model's state starts as the token's embedding.
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
                let allowed = "left out: in this model a token enters as the initial state, which this would replace";
                Err(Error::Option { name, value: "given".to_owned(), allowed })
            }
        }
    }
}

impl SessionOptions {
    /// The seed of initial states.
    pub(crate) fn seed_of_states(&self) -> u64 {
        self.state_seed.unwrap_or(self.seed)
    }

    /// What the device knows of a sequence of these options.
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

    /// Checks what can be said without a model.
    ///
    /// # Errors
    /// [`Error::Option`] names the first value that makes no sense.
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

/// Where a row's recurrence starts.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum State<'a> {
    /// Drawn from the session's seed and the row's position, scaled by [`SessionOptions::init_scale`].
    #[default]
    Seeded,
    /// Handed in, `[rows, n_embd]`; zeros for a zero state.
    Given(&'a [f32]),
    /// That of the last row of the session's last pass, for a single row: continuous compute.
    Carried,
}

/// Gives the steps of a token by its place among the generated ones, from 0.
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

/// What to generate. Versions before 1.0 may add fields: end a literal with `..GenerateOptions::default()`.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
pub struct GenerateOptions {
    /// Recurrence steps per token, at least 1; by default the model's mean recurrence.
    pub steps: Option<u32>,
    /// Another number of steps for each token; the prompt has [`Self::steps`].
    #[cfg_attr(feature = "serde", serde(skip))]
    pub steps_of: Option<StepsOf>,
    /// When a token has been iterated enough, before it has had all its steps.
    pub exit: Option<Exit>,
    /// Whether tokens go on from the state of the one before. A generation that adds nothing ([`Prompt::Continue`](crate::Prompt::Continue)) goes on
    /// from the state that the last one left, unless that was ended while the device had begun another token.
    pub continuous: Option<Continuous>,
    /// Tokens are drafted at few steps, and verified together.
    pub speculate: Option<Speculate>,
    /// The next positions begin before the ones in front of them are finished.
    pub pipeline: Option<Pipeline>,
    /// Positions are iterated together before their tokens are known for sure, which changes what is said.
    pub diffusion: Option<Diffusion>,
    /// Noise that states get before every step.
    pub noise: Option<Noise>,
    /// Tokens at most; by default as many as the context holds. With 0 the prompt is computed and nothing is chosen after it.
    pub max_tokens: Option<u32>,
    /// Tokens at most, those before them in the session and the prompt's included.
    pub max_length: Option<u32>,
    /// Tokens before one that ends generation may be chosen.
    pub min_tokens: Option<u32>,
    /// Tokens before one that ends generation may be chosen, those before them in the session and the prompt's included.
    pub min_length: Option<u32>,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Added to the logits of tokens, before anything else is done to them: token id and value. Minus infinity bans a token, infinity forces it.
    #[cfg_attr(feature = "serde", serde(with = "crate::serialize::logit_bias"))]
    pub logit_bias: Vec<(u32, f32)>,
    /// Tokens that are not chosen as the first one.
    pub begin_suppress: Vec<u32>,
    /// Sequences of tokens that are never completed, whether in the prompt or behind it they begin.
    pub bad_words: Vec<Vec<u32>>,
    /// Sequences of so many tokens, at least 2, do not occur twice in prompt and text; not together with [`Dry`](crate::Dry), which works by the same means.
    pub no_repeat_ngram: Option<u32>,
    /// First token, if all that comes before it is one token.
    pub forced_begin: Option<u32>,
    /// Where [`Self::max_tokens`] or [`Self::max_length`] limits the tokens, the last one is one of these, if there are any.
    pub forced_end: Vec<u32>,
    /// Grammar that the text follows; not together with computing ahead (`speculate`, `pipeline`, `diffusion`). Bans and biases apply among the tokens that it
    /// allows; of tokens that would be forced, only those count. A complete text ends generation, before [`Self::min_tokens`] too.
    #[cfg_attr(feature = "serde", serde(skip))]
    pub constraint: Option<Constraint>,
    /// Texts that end what [`Dry`](crate::Dry) takes for a repeated passage, by default a line break, a colon, a quotation mark and an asterisk: every token
    /// that holds one of them, or if none does, the last token of its text.
    pub dry_breakers: Vec<String>,
    /// Log-probabilities of the chosen token and of so many of the most likely ones, at most [`MAX_LOGPROBS`](crate::MAX_LOGPROBS), with each
    /// [`Piece`](crate::Piece). They are the model's own: a softmax of its logits at temperature 1, before bias, penalties and filters.
    pub logprobs: Option<u32>,
    /// In a [`Batch`](crate::Batch): how likely every token of the prompt is, as [`Self::logprobs`] says of those that are generated. Every token is read
    /// out for it.
    pub prompt_logprobs: bool,
    /// Texts at which generation stops; they are not part of the output. Special tokens count as they are spelled, although they are not
    /// part of the output either: `<|end|>` stops at that token.
    pub stop: Vec<String>,
    /// Whether a text prompt at the start of a session is preceded by what the tokenizer puts before a text, such as the begin token: see
    /// [`Specials::Prompt`](crate::Specials::Prompt).
    pub add_bos: bool,
    /// Whether special tokens that a text prompt spells become those tokens; if not, they are plain text.
    pub parse_special: bool,
    /// Tokens that end generation; by default the model's own.
    pub end_tokens: Option<Vec<u32>>,
}

impl GenerateOptions {
    /// Whether rows of tokens that are not known yet share passes.
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
