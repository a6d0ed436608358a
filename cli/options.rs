//! Flags that several verbs share, and which of them, the checkpoint's defaults and llama.cpp's wins.

use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use ruminate::{Dtype, GenerateOptions, GenerationConfig, KV_DTYPES, MAX_STEPS, Model, Sampling, SessionOptions};

/// Flags that say how a text is continued.
#[derive(Args)]
pub(crate) struct GenerationOptions {
    /// Recurrence steps per token: how long the model thinks [default: the model's mean recurrence]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_STEPS)), help_heading = "Depth")]
    pub(crate) steps: Option<u32>,
    /// Factor on the random initial state; 0 starts from zeros
    #[arg(long, value_name = "X", default_value_t = 1.0, help_heading = "Depth")]
    pub(crate) init_scale: f32,

    /// Tokens to generate at most [default: until the model ends or the context is full]
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), help_heading = "Generation")]
    pub(crate) max_tokens: Option<u32>,
    /// Positions to hold at most [default: the model's, up to 4096]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), help_heading = "Generation")]
    pub(crate) ctx_size: Option<u32>,
    /// Text that ends generation; may be given several times
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

/// The flag that says how keys and values are held.
#[derive(Args)]
pub(crate) struct CacheOptions {
    /// How keys and values are held: q8 takes 53 % of the memory of bf16 and says nearly the same
    #[arg(long, value_name = "DTYPE", default_value = "bf16", value_parser = kv_dtypes(), help_heading = "Device")]
    pub(crate) kv_dtype: Dtype,
}

/// What `--kv-dtype` may say.
pub(crate) fn kv_dtypes() -> impl TypedValueParser<Value = Dtype> {
    let named = |name: &String| KV_DTYPES.into_iter().find(|dtype| dtype.name() == name).unwrap_or(Dtype::Bf16);
    PossibleValuesParser::new(KV_DTYPES.map(Dtype::name)).map(move |name| named(&name))
}

/// Flags that say how a token is chosen.
#[derive(Args)]
pub(crate) struct SamplingOptions {
    /// Temperature; 0 always takes the most likely token [default: the checkpoint's, or 0.8]
    #[arg(long, value_name = "X", help_heading = "Sampling")]
    pub(crate) temp: Option<f32>,
    /// Keep the K most likely tokens; 0 keeps all [default: the checkpoint's, or 40]
    #[arg(long, value_name = "K", help_heading = "Sampling")]
    pub(crate) top_k: Option<u32>,
    /// Keep the most likely tokens that together reach P; 1 keeps all [default: the checkpoint's, or 0.95]
    #[arg(long, value_name = "P", help_heading = "Sampling")]
    pub(crate) top_p: Option<f32>,
    /// Keep tokens of at least this share of the largest probability [default: the checkpoint's, or 0.05]
    #[arg(long, value_name = "P", help_heading = "Sampling")]
    pub(crate) min_p: Option<f32>,
    /// Divide the logits of tokens seen before; 1 changes nothing [default: the checkpoint's, or 1]
    #[arg(long, value_name = "X", help_heading = "Sampling")]
    pub(crate) repeat_penalty: Option<f32>,
}

/// What `--dtype` may say, for help texts.
pub(crate) const DTYPES: &str = "\
f32, f16 or bf16; q8 (8.5 bits), q4 (4.5 bits) or q4_1 (5 bits), in blocks of 32 with a common factor. Groups of matrices may be held otherwise: \
q4,adapter=bf16,embedding=q8. The groups are embedding (and head, where it is the embedding), head, adapter, prelude, core, coda";

impl GenerationOptions {
    /// The session that the flags ask for; its seed is made up unless one was given.
    pub(crate) fn session(&self) -> SessionOptions {
        let clock = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::from(since.subsec_nanos()));
        SessionOptions {
            context: self.ctx_size,
            steps: self.steps,
            seed: self.seed.unwrap_or_else(clock),
            init_scale: self.init_scale,
            kv_dtype: self.cache.kv_dtype,
            ..SessionOptions::default()
        }
    }

    /// What the flags ask to generate.
    pub(crate) fn generate(&self, model: &Model) -> GenerateOptions {
        let checkpoint = model.generation_config();
        GenerateOptions {
            steps: self.steps,
            max_tokens: self.max_tokens.or(checkpoint.max_new_tokens),
            sampling: self.sampling.or_else(checkpoint),
            stop: self.stop.clone(),
            add_bos: model.tokenizer().bos().is_some(),
            ..GenerateOptions::default()
        }
    }
}

impl SamplingOptions {
    /// Flag, else the checkpoint's default, else llama.cpp's.
    fn or_else(&self, checkpoint: &GenerationConfig) -> Sampling {
        let usual = Sampling::default();
        let greedy = (checkpoint.do_sample == Some(false)).then_some(0.0);
        Sampling {
            temperature: self.temp.or(greedy).or(checkpoint.temperature).unwrap_or(usual.temperature),
            top_k: self.top_k.or(checkpoint.top_k).unwrap_or(usual.top_k),
            top_p: self.top_p.or(checkpoint.top_p).unwrap_or(usual.top_p),
            min_p: self.min_p.or(checkpoint.min_p).unwrap_or(usual.min_p),
            repeat_penalty: self.repeat_penalty.or(checkpoint.repetition_penalty).unwrap_or(usual.repeat_penalty),
        }
    }
}
