//! Flags that several verbs share, and which of them, the checkpoint's defaults and llama.cpp's wins.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use ruminate::{
    Continuous, Criterion, Dtype, Error, Exit, GenerateOptions, KV_DTYPES, KvShare, KvStrategy, MAX_STEPS, Model,
    Noise, PrefillExit, SessionOptions, Spec, Start,
};

use crate::ahead::AheadOptions;
use crate::prompt::unescape;
use crate::sampling::SamplingOptions;

/// Flags that say how a text is continued.
#[derive(Args)]
pub(crate) struct GenerationOptions {
    /// Recurrence steps per token, up to 65536: how long the model thinks [default: the model's mean recurrence]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_STEPS)), help_heading = "Depth")]
    pub(crate) steps: Option<u32>,
    /// Factor on the random initial state, up to 1000000; 0 starts from zeros
    #[arg(long, value_name = "X", default_value_t = 1.0, help_heading = "Depth")]
    pub(crate) init_scale: f32,
    #[command(flatten)]
    pub(crate) exit: ExitOptions,
    /// Let each token go on from the state of the one before, instead of from a fresh one: as it left the core block (raw), or behind the final norm (normed)
    #[arg(long, value_name = "STATE", num_args = 0..=1, require_equals = true, default_missing_value = "raw", value_parser = continuous(), help_heading = "Depth")]
    pub(crate) continuous: Option<Continuous>,
    /// Mix noise into every state before every step, as the authors can at test time: fixed=0.05, geom=0.1, sqrt, line or chi; the scale is in
    /// standard deviations of initial states. States are normed behind it, but not with fixed=0.05,raw
    #[arg(long, value_name = "KIND=SCALE", help_heading = "Depth")]
    pub(crate) noise: Option<Noise>,
    #[command(flatten)]
    pub(crate) ahead: AheadOptions,
    /// Add every sum in one order, so that logits are the same to the bit however many rows share a pass; slower where a single row would be computed
    #[arg(long, help_heading = "Computing ahead")]
    pub(crate) invariant: bool,

    /// Tokens to generate at most [default: until the model ends or the context is full]
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), help_heading = "Generation")]
    pub(crate) max_tokens: Option<u32>,
    /// Positions to hold at most [default: the model's, up to 4096]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), help_heading = "Generation")]
    pub(crate) ctx_size: Option<u32>,
    /// Text that ends generation, with \n for a line break, \t for a tab, \\ for a backslash; special tokens count, as <|end|>; may be given several times
    #[arg(long, value_name = "TEXT", help_heading = "Generation")]
    pub(crate) stop: Vec<String>,
    /// Seed of initial states and sampling [default: a new one every time]
    #[arg(short, long, value_name = "N", help_heading = "Generation")]
    pub(crate) seed: Option<u64>,

    #[command(flatten)]
    pub(crate) cache: CacheOptions,
    #[command(flatten)]
    pub(crate) sampling: SamplingOptions,
}

/// Flags that say when a token has been iterated enough.
#[derive(Args)]
pub(crate) struct ExitOptions {
    /// Stop iterating a token once it has settled, after --steps at the latest: latent-diff or cosine look at the state; kl, minp-kl, entropy-diff or
    /// argmax-stability at the next token; gate asks the exit gate that Ouro has learned (with gate,posthoc all steps are computed, and the state is chosen
    /// afterwards, as the authors do)
    #[arg(long, value_name = "CRITERION", value_parser = criteria(), help_heading = "Depth")]
    pub(crate) exit: Option<Exit>,
    /// What counts as settled: less than this [default: the authors', as latent-diff 0.03 or kl 0.001]; for argmax-stability so many checks with the same
    /// token [default: 5]; for gate this probability of having left [default: 0.9]
    #[arg(long, value_name = "X", requires = "exit", help_heading = "Depth")]
    pub(crate) exit_threshold: Option<f32>,
    /// Steps before the first check
    #[arg(long, value_name = "N", requires = "exit", default_value_t = 0, help_heading = "Depth")]
    pub(crate) min_steps: u32,
    /// Check every N steps, the first time at the step after --min-steps
    #[arg(long, value_name = "N", requires = "exit", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..), help_heading = "Depth")]
    pub(crate) exit_every: u32,
    /// Give the tokens of the prompt all their steps
    #[arg(long, requires = "exit", help_heading = "Depth")]
    pub(crate) no_exit_in_prefill: bool,
}

impl ExitOptions {
    /// What the flags ask for.
    pub(crate) fn exit(&self) -> Option<Exit> {
        let usual = self.exit?;
        Some(Exit {
            threshold: self.exit_threshold.unwrap_or(usual.threshold),
            min_steps: self.min_steps,
            every: self.exit_every,
            prefill: if self.no_exit_in_prefill { PrefillExit::Never } else { usual.prefill },
            ..usual
        })
    }
}

/// Warns of steps that are more than a model was trained for, where more are known to make its text worse.
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

/// The exit gate with the authors' semantics.
const POSTHOC: &str = "gate,posthoc";

/// What `--continuous` may say.
fn continuous() -> impl TypedValueParser<Value = Continuous> {
    PossibleValuesParser::new(["raw", "normed"])
        .map(|name| if name == "normed" { Continuous::Normed } else { Continuous::Raw })
}

/// What `--kv-share` may say.
fn share(text: &str) -> std::result::Result<KvShare, String> {
    match text.parse() {
        _ if text == "anchor" => Ok(KvShare::Anchor),
        Ok(apart @ 1..) => Ok(KvShare::Steps(apart)),
        _ => Err("give a number of steps of at least 1, or anchor".to_owned()),
    }
}

/// The flags that say how keys and values are held.
#[derive(Args)]
pub(crate) struct CacheOptions {
    /// What a token that stopped early shows to later ones at steps that it has not had: nothing (full, or skip), its latest step (latest, or available), or, once
    /// one lacks a step, all of them their last (always-last); also the authors' names, as latest-m4-compress-s16
    #[arg(long, value_name = "STRATEGY", default_value = "latest", help_heading = "Depth")]
    pub(crate) kv_lookup: String,
    /// Let steps that are N apart share their keys and values, which saves memory; or anchor: all from the ninth on
    #[arg(long, value_name = "N", value_parser = share, help_heading = "Depth")]
    pub(crate) kv_share: Option<KvShare>,
    /// How keys and values are held [default: bf16; for traces f32]: q8 takes 53 % of the memory of bf16 and says nearly the same
    #[arg(long, value_name = "DTYPE", value_parser = kv_dtypes(), help_heading = "Device")]
    kv_dtype: Option<Dtype>,
}

impl CacheOptions {
    /// How keys and values are held.
    pub(crate) fn kv_dtype(&self) -> Dtype {
        self.kv_dtype.unwrap_or(Dtype::Bf16)
    }

    /// How keys and values are held where states are looked at: in f32 by default, since rounding to bf16 moves states for ever, which looks like an orbit of
    /// the model's.
    pub(crate) fn exact_kv_dtype(&self) -> Dtype {
        self.kv_dtype.unwrap_or(Dtype::F32)
    }

    /// A session whose cache is as the flags ask, of a model of this configuration.
    pub(crate) fn session(&self, spec: &Spec) -> std::result::Result<SessionOptions, Error> {
        let KvStrategy { lookup, share } = self.strategy(spec)?;
        Ok(SessionOptions { kv_dtype: self.kv_dtype(), lookup, share, ..SessionOptions::default() })
    }

    /// What the flags ask for, of a model of this configuration.
    pub(crate) fn strategy(&self, spec: &Spec) -> std::result::Result<KvStrategy, Error> {
        let named = KvStrategy::parse(&self.kv_lookup, spec.layers.core)?;
        Ok(KvStrategy { share: self.kv_share.unwrap_or(named.share), ..named })
    }
}

/// What `--kv-dtype` may say.
pub(crate) fn kv_dtypes() -> impl TypedValueParser<Value = Dtype> {
    let named = |name: &String| KV_DTYPES.into_iter().find(|dtype| dtype.name() == name).unwrap_or(Dtype::Bf16);
    PossibleValuesParser::new(KV_DTYPES.map(Dtype::name)).map(move |name| named(&name))
}

/// What `--dtype` may say, for help texts.
pub(crate) const DTYPES: &str = "\
f32, f16 or bf16; q8 (8.5 bits), q4 (4.5 bits) or q4_1 (5 bits), in blocks of 32 with a common factor. Groups of matrices may be held otherwise: \
q4,adapter=bf16,embedding=q8. The groups are embedding (and head, where it is the embedding), head, adapter, prelude, core, coda. What products are made of is \
f32; products=int8 rounds rows too and multiplies whole numbers, with weights in blocks; products=f16 adds those of prompts in f16; products=cooperative \
(experimental) has subgroups multiply those of prompts with the units that GPUs have for matrices; all are for GPUs, and slow on software drivers";

impl GenerationOptions {
    /// The session that the flags ask for; its seed is made up unless one was given.
    pub(crate) fn session(&self, spec: &Spec) -> std::result::Result<SessionOptions, Error> {
        let clock = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::from(since.subsec_nanos()));
        let cache = self.cache.session(spec)?;
        if self.init_scale != 1.0 && spec.start == Start::Embedding {
            let (name, value) = ("init-scale", self.init_scale.to_string());
            return Err(Error::Option { name, value, allowed: "left out: this model's states start as embeddings" });
        }
        Ok(SessionOptions {
            context: self.ctx_size,
            steps: self.steps,
            seed: self.seed.unwrap_or_else(clock),
            init_scale: self.init_scale,
            invariant: self.invariant,
            share: self.ahead.diffusion.share(cache.share),
            ..cache
        })
    }

    /// What the flags ask to generate.
    ///
    /// # Errors
    /// If a text that stands for a token is none, or a default of the checkpoint is used and not supported.
    pub(crate) fn generate(&self, model: &Model, quiet: bool) -> Result<GenerateOptions> {
        let checkpoint = model.generation_config();
        // A flag wins over the checkpoint.
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
        let stop: Vec<String> = self.stop.iter().map(|text| unescape(text)).chain(usual.stop.iter().cloned()).collect();
        let dry_breakers = self.sampling.breakers();
        if !quiet {
            remark_depth(model.spec(), self.steps);
            for line in self.sampling.without_effect(checkpoint) {
                remark!("{line}");
            }
            let tokenizer = model.tokenizer();
            for text in stop.iter().filter(|text| !tokenizer.can_say(text)) {
                remark!("the stop text {text:?} can never occur: no tokens of this model spell it");
            }
            for text in self.sampling.given_breakers().iter().filter(|text| !tokenizer.can_say(text)) {
                remark!("the DRY breaker {text:?} can never occur: no tokens of this model spell it");
            }
        }
        Ok(GenerateOptions {
            steps: self.steps,
            exit: self.exit.exit(),
            continuous: self.continuous,
            noise: self.noise,
            speculate: self.ahead.speculate(),
            pipeline: self.ahead.pipeline(),
            diffusion: self.ahead.diffusion.diffusion(),
            max_tokens: self.max_tokens.or(usual.max_tokens),
            max_length: usual.max_length.filter(|_| self.max_tokens.is_none()),
            sampling: self.sampling.over(usual.sampling),
            logit_bias,
            dry_breakers,
            no_repeat_ngram: usual.no_repeat_ngram.filter(|_| self.sampling.dry_multiplier.is_none()),
            stop,
            ..usual
        })
    }
}
