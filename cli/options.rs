//! Flags shared by several commands, and their precedence over the defaults of the checkpoint and of llama.cpp.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use ruminate::{
    Continuous, Criterion, Dtype, Error, Exit, GenerateOptions, KV_DTYPES, KvShare, KvSharing, MAX_STEPS, Model, Noise,
    PrefillExit, SessionOptions, Spec, Start,
};

use crate::flags::set_by_file;
use crate::parallel_decoding::ParallelDecodingOptions;
use crate::prompt::unescape;
use crate::sampling::SamplingOptions;

/// Flags for generation.
#[derive(Args)]
pub(crate) struct GenerationOptions {
    /// Steps per token, up to 65536 [default: the model's own number]
    ///
    /// A step is one application of the core block: more steps let the model think longer.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_STEPS)), help_heading = "Common", display_order = 2)]
    pub(crate) steps: Option<u32>,
    /// Factor on the random initial state; 0 starts from zeros
    ///
    /// At most 1000000.
    #[arg(long, value_name = "X", default_value_t = 1.0, help_heading = "Depth", hide_short_help = true)]
    pub(crate) init_scale: f32,
    #[command(flatten)]
    pub(crate) exit: ExitOptions,
    /// Start each token from the state of the one before
    ///
    /// raw takes the state before the final norm, normed the state after it. Only for models with a random initial state.
    #[arg(long, value_name = "STATE", num_args = 0..=1, require_equals = true, default_missing_value = "raw", value_parser = continuous(), help_heading = "Depth", hide_short_help = true, hide_possible_values = true)]
    pub(crate) continuous: Option<Continuous>,
    /// Mix noise into each state before each step: fixed=0.05, geom=0.1, …
    ///
    /// The kinds are fixed, geom, sqrt, line and chi, as in the authors' code; the scale is in standard deviations of initial states. States are
    /// normed afterwards, except with `,raw`: fixed=0.05,raw.
    #[arg(long, value_name = "KIND=SCALE", help_heading = "Depth", hide_short_help = true)]
    pub(crate) noise: Option<Noise>,
    /// Do not norm states after the noise, like `,raw`
    #[arg(long, requires = "noise", help_heading = "Depth", hide_short_help = true)]
    noise_raw: bool,
    #[command(flatten)]
    pub(crate) parallel: ParallelDecodingOptions,
    /// Compute bitwise equal logits, alone or in a batch
    ///
    /// Every sum is computed in a fixed order, however many rows share a pass. Slower for single rows.
    #[arg(long, help_heading = "Fewer passes", hide_short_help = true)]
    pub(crate) invariant: bool,

    /// Tokens to generate at most [default: until the model ends]
    ///
    /// Without this flag, or with -1, generation ends with the model's end token, or when the context is full.
    #[arg(short = 'n', long, value_name = "N", value_parser = limit, help_heading = "Common", display_order = 4)]
    pub(crate) max_tokens: Option<u32>,
    /// Positions of the context [default: the model's, up to 4096]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), help_heading = "Common", display_order = 7)]
    pub(crate) ctx_size: Option<u32>,
    /// Stop at TEXT; may be repeated
    ///
    /// \n is a line break, \t a tab, and \\ a backslash. Special tokens count as they are spelled: <|end|>.
    #[arg(long, value_name = "TEXT", help_heading = "Sampling")]
    pub(crate) stop: Vec<String>,
    /// Seed of initial states and sampling [default: a new one each time]
    #[arg(short, long, value_name = "N", help_heading = "Common", display_order = 6)]
    pub(crate) seed: Option<u64>,

    #[command(flatten)]
    pub(crate) cache: CacheOptions,
    #[command(flatten)]
    pub(crate) sampling: SamplingOptions,
}

/// Flags for early exit.
#[derive(Args)]
pub(crate) struct ExitOptions {
    /// Exit early: latent-diff, cosine, kl, minp-kl, entropy-diff, argmax-stability, gate
    ///
    /// A token exits when the criterion is met, after --steps at the latest. latent-diff and cosine compare states; kl, minp-kl, entropy-diff and
    /// argmax-stability compare distributions of the next token, which costs a read-out per check; gate uses Ouro's learned exit gate. gate,posthoc
    /// computes all steps and chooses the state afterwards, as the authors do.
    #[arg(long, value_name = "CRITERION", value_parser = criteria(), help_heading = "Common", display_order = 3, hide_possible_values = true)]
    pub(crate) exit: Option<Exit>,
    /// With --exit gate: compute all steps, and choose the state afterwards
    ///
    /// This is what the authors' code does. It saves no time and exists for comparison, like --exit gate,posthoc.
    #[arg(long, requires = "exit", help_heading = "Depth", hide_short_help = true)]
    exit_posthoc: bool,
    /// Threshold of --exit [default: the authors', such as 0.03 for latent-diff]
    ///
    /// A token exits when the value is below this. Defaults: latent-diff 0.03, cosine 0.001, kl 0.001, minp-kl 0.00001, entropy-diff 0.001. For
    /// argmax-stability the number of checks with the same token [5], for gate the probability of having exited [0.9].
    #[arg(long, value_name = "X", requires = "exit", help_heading = "Depth")]
    pub(crate) exit_threshold: Option<f32>,
    /// Steps before the first check
    #[arg(
        long,
        value_name = "N",
        requires = "exit",
        default_value_t = 0,
        help_heading = "Depth",
        hide_short_help = true
    )]
    pub(crate) min_steps: u32,
    /// Check every N steps
    ///
    /// The first check is one step after --min-steps.
    #[arg(long, value_name = "N", requires = "exit", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..), help_heading = "Depth", hide_short_help = true)]
    pub(crate) exit_every: u32,
    /// Compute all steps for the tokens of the prompt
    #[arg(long, requires = "exit", help_heading = "Depth", hide_short_help = true)]
    pub(crate) no_exit_in_prefill: bool,
}

impl ExitOptions {
    /// Requested exit rule.
    pub(crate) fn exit(&self) -> Option<Exit> {
        let usual = self.exit?;
        Some(Exit {
            threshold: self.exit_threshold.unwrap_or(usual.threshold),
            min_steps: self.min_steps,
            every: self.exit_every,
            prefill: if self.no_exit_in_prefill { PrefillExit::Never } else { usual.prefill },
            posthoc: usual.posthoc || self.exit_posthoc,
            ..usual
        })
    }
}

/// Warns about more steps than a model was trained for, for models known to get worse with more.
pub(crate) fn remark_depth(spec: &Spec, steps: impl IntoIterator<Item = u32>) {
    if let (Some(steps), Some(most)) = (steps.into_iter().max(), spec.steps.most_useful)
        && steps > most
    {
        remark!("{steps} steps are more than the {most} that this model was trained for: its answers get worse");
    }
}

/// Parser of `--exit`.
fn criteria() -> impl TypedValueParser<Value = Exit> {
    let names = Criterion::ALL.map(Criterion::name).into_iter().chain([POSTHOC]);
    PossibleValuesParser::new(names).try_map(|name| name.parse::<Exit>())
}

/// Name of the exit gate with the authors' semantics.
const POSTHOC: &str = "gate,posthoc";

/// Parser of `--continuous`.
fn continuous() -> impl TypedValueParser<Value = Continuous> {
    PossibleValuesParser::new(["raw", "normed"])
        .map(|name| if name == "normed" { Continuous::Normed } else { Continuous::Raw })
}

/// Parser of `--max-tokens`: as in llama.cpp, -1 means no limit.
fn limit(text: &str) -> std::result::Result<u32, String> {
    match text.parse::<i64>() {
        Ok(-1) => Ok(u32::MAX),
        Ok(number @ 1..) => u32::try_from(number).map_err(|_| format!("at most {}", u32::MAX)),
        _ => Err("expected a number of at least 1, or -1 for no limit".to_owned()),
    }
}

/// Parser of `--kv-share`.
fn share(text: &str) -> std::result::Result<KvShare, String> {
    match text.parse() {
        _ if text == "anchor" => Ok(KvShare::Anchor),
        Ok(apart @ 1..) => Ok(KvShare::Steps(apart)),
        _ => Err("expected a number of steps of at least 1, or anchor".to_owned()),
    }
}

/// Flags for the cache of keys and values.
#[derive(Args)]
pub(crate) struct CacheOptions {
    /// Keys and values of an exited token at skipped steps: latest, full or always-last
    ///
    /// latest (or available): those of its last step. full (or skip): none. always-last: those of its last step, at all steps, as soon as one step
    /// lacks an entry. The authors' names work too: latest-m4-compress-s16.
    #[arg(long, value_name = "STRATEGY", default_value = "latest", help_heading = "Depth", hide_short_help = true)]
    pub(crate) kv_lookup: String,
    /// Share keys and values between steps N apart; or anchor
    ///
    /// Saves memory. anchor: all steps from the ninth on share one slot.
    #[arg(long, value_name = "N", value_parser = share, help_heading = "Depth")]
    pub(crate) kv_share: Option<KvShare>,
    /// Dtype of keys and values: f32, bf16 or q8 [default: bf16; traces: f32]
    ///
    /// q8 takes 53 % of the memory of bf16 at nearly the same quality.
    #[arg(long, value_name = "DTYPE", value_parser = kv_dtypes(), help_heading = "Device", hide_possible_values = true)]
    kv_dtype: Option<Dtype>,
}

impl CacheOptions {
    /// Dtype of keys and values.
    pub(crate) fn kv_dtype(&self) -> Dtype {
        self.kv_dtype.unwrap_or(Dtype::Bf16)
    }

    /// Dtype of keys and values for commands that analyze states: f32 by default, because rounding to bf16 keeps moving states, which looks like an
    /// orbit of the model.
    pub(crate) fn exact_kv_dtype(&self) -> Dtype {
        self.kv_dtype.unwrap_or(Dtype::F32)
    }

    /// Session options with the requested cache, for a model of this configuration.
    pub(crate) fn session(&self, spec: &Spec) -> std::result::Result<SessionOptions, Error> {
        let KvSharing { lookup, share } = self.kv_sharing(spec)?;
        Ok(SessionOptions { kv_dtype: self.kv_dtype(), lookup, share, ..SessionOptions::default() })
    }

    /// Requested lookup and sharing of keys and values, for a model of this configuration.
    pub(crate) fn kv_sharing(&self, spec: &Spec) -> std::result::Result<KvSharing, Error> {
        let named = KvSharing::parse(&self.kv_lookup, spec.layers.core)?;
        Ok(KvSharing { share: self.kv_share.unwrap_or(named.share), ..named })
    }
}

/// Parser of `--kv-dtype`.
pub(crate) fn kv_dtypes() -> impl TypedValueParser<Value = Dtype> {
    let named = |name: &String| KV_DTYPES.into_iter().find(|dtype| dtype.name() == name).unwrap_or(Dtype::Bf16);
    PossibleValuesParser::new(KV_DTYPES.map(Dtype::name)).map(move |name| named(&name))
}

/// Names of the dtypes, for help texts of one line.
pub(crate) const DTYPE_NAMES: &str = "f32, f16, bf16, q8, q4 or q4_1";

/// Names of the quantized dtypes.
pub(crate) const QUANTIZED_NAMES: &str = "q8, q4 or q4_1";

/// Values of `--dtype`, for help texts.
pub(crate) const DTYPES: &str = "\
f32, f16 or bf16; or q8 (8.5 bits per weight), q4 (4.5 bits) or q4_1 (5 bits), in blocks of 32 with a common scale.

Groups of matrices may have a dtype of their own: q4,adapter=bf16,embedding=q8. The groups are embedding (and the head, where it is the embedding), head, adapter, prelude, core and coda.

The arithmetic mode may be given here as well as by --arithmetic: q8,products=int8.";

impl GenerationOptions {
    /// Requested session options; without `--seed`, the seed comes from the clock.
    pub(crate) fn session(&self, spec: &Spec) -> std::result::Result<SessionOptions, Error> {
        let clock = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::from(since.subsec_nanos()));
        let cache = self.cache.session(spec)?;
        if self.init_scale != 1.0 && spec.start == Start::Embedding {
            let (name, value) = ("init_scale", self.init_scale.to_string());
            return Err(Error::Option {
                name,
                value,
                allowed: "unset, because this model's states start as embeddings",
            });
        }
        Ok(SessionOptions {
            context: self.ctx_size,
            steps: self.steps,
            seed: self.seed.unwrap_or_else(clock),
            init_scale: self.init_scale,
            invariant: self.invariant,
            share: self.parallel.diffusion.share(cache.share),
            ..cache
        })
    }

    /// Requested generation options, with notes on those without effect unless `quiet`.
    ///
    /// # Errors
    /// If a text in `--logit-bias` is not one token, or a default of the checkpoint applies and is not supported.
    pub(crate) fn generate(&self, model: &Model, quiet: bool) -> Result<GenerateOptions> {
        let asked = self.generate_options(model)?;
        if !quiet {
            self.note(model, &asked);
        }
        Ok(asked)
    }

    /// Prints notes on flags and defaults without effect. Rejected options need no notes, so call it only after all options have been accepted.
    pub(crate) fn note(&self, model: &Model, asked: &GenerateOptions) {
        remark_depth(model.spec(), self.steps);
        for line in self.sampling.without_effect(model.generation_config()) {
            remark!("{line}");
        }
        let tokenizer = model.tokenizer();
        for text in asked.stop.iter().filter(|text| !tokenizer.can_say(text)) {
            remark!("the stop text {text:?} can never occur: no tokens of this model spell it");
        }
        for text in self.sampling.given_breakers().iter().filter(|text| !tokenizer.can_say(text)) {
            remark!("the DRY breaker {text:?} can never occur: no tokens of this model spell it");
        }
    }

    /// Requested generation options, without notes.
    ///
    /// # Errors
    /// As [`Self::generate`].
    pub(crate) fn generate_options(&self, model: &Model) -> Result<GenerateOptions> {
        // Flags override the checkpoint's defaults.
        let mut given = self.sampling.given();
        if self.max_tokens.is_some() {
            given.extend(["max_new_tokens", "max_length"]);
        }
        let usual = model.generate_options_but(&given)?;
        if let Some(exit) = self.exit.exit() {
            exit.validate(model.spec())?;
        }
        let mut logit_bias = self.sampling.bias(model.tokenizer())?;
        let given: Vec<u32> = logit_bias.iter().map(|&(token, _)| token).collect();
        logit_bias.extend(usual.logit_bias.iter().filter(|(token, _)| !given.contains(token)));
        let by_file = [
            ("bad_words", !usual.bad_words.is_empty()),
            ("begin_suppress", !usual.begin_suppress.is_empty()),
            ("forced_begin", usual.forced_begin.is_some()),
            ("forced_end", !usual.forced_end.is_empty()),
            ("logit_bias", !usual.logit_bias.is_empty() && given.is_empty()),
            ("max_length", usual.max_length.is_some() && self.max_tokens.is_none()),
            ("max_tokens", usual.max_tokens.is_some() && self.max_tokens.is_none()),
            ("min_length", usual.min_length.is_some()),
            ("min_tokens", usual.min_tokens.is_some()),
        ];
        set_by_file(by_file.into_iter().filter_map(|(name, set)| set.then_some(name)).collect());
        let stop: Vec<String> = self.stop.iter().map(|text| unescape(text)).chain(usual.stop.iter().cloned()).collect();
        let dry_breakers = self.sampling.breakers();
        let sampling = self.sampling.over(usual.sampling);
        sampling.validate()?;
        Ok(GenerateOptions {
            steps: self.steps,
            exit: self.exit.exit(),
            continuous: self.continuous,
            noise: self.noise.map(|noise| Noise { renorm: noise.renorm && !self.noise_raw, ..noise }),
            speculate: self.parallel.speculate(),
            pipeline: self.parallel.pipeline(),
            diffusion: self.parallel.diffusion.diffusion(),
            max_tokens: self.max_tokens.or(usual.max_tokens),
            max_length: usual.max_length.filter(|_| self.max_tokens.is_none()),
            sampling,
            logit_bias,
            dry_breakers,
            no_repeat_ngram: usual.no_repeat_ngram.filter(|_| self.sampling.dry_multiplier.is_none()),
            stop,
            ..usual
        })
    }
}
