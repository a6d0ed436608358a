//! The flags of `ruminate run`, and which of them, the checkpoint's defaults and llama.cpp's wins.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use ruminate::{Dtype, GenerationConfig, Sampling};

use crate::device::DeviceOptions;

/// Flags of `ruminate run`.
#[derive(Args)]
pub(crate) struct Run {
    /// Folder of a checkpoint in the Hugging Face layout; without it the embedded demo
    #[arg(short, long, value_name = "DIR", help_heading = "Input")]
    pub(crate) model: Option<PathBuf>,
    /// Prompt to continue; - reads it from stdin
    #[arg(value_name = "PROMPT", conflicts_with_all = ["prompt", "file"], help_heading = "Input")]
    pub(crate) positional: Option<String>,
    /// Prompt to continue
    #[arg(short, long, value_name = "TEXT", conflicts_with = "file", help_heading = "Input")]
    pub(crate) prompt: Option<String>,
    /// File that holds the prompt; - for stdin
    #[arg(short, long, value_name = "FILE", help_heading = "Input")]
    pub(crate) file: Option<PathBuf>,
    /// Don't put the model's begin token before the prompt
    #[arg(long, help_heading = "Input")]
    pub(crate) no_bos: bool,

    /// Recurrence steps per token: how long the model thinks [default: the model's mean recurrence]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), help_heading = "Depth")]
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

    #[command(flatten)]
    pub(crate) device: DeviceOptions,
    /// How weights are held on the device [default: as in the file, f32 rounded to bf16]
    #[arg(long, value_enum, help_heading = "Device")]
    pub(crate) dtype: Option<Precision>,

    /// Load even if memory seems too small
    #[arg(long, help_heading = "Device")]
    pub(crate) overcommit: bool,

    /// Print one JSON object instead of text
    #[arg(long, help_heading = "Output")]
    pub(crate) json: bool,
    /// With --json: one object per token, then one with the figures
    #[arg(long, requires = "json", help_heading = "Output")]
    pub(crate) stream: bool,
    /// Print the executor's counters afterwards
    #[arg(long, help_heading = "Output")]
    pub(crate) stats: bool,
    /// Time every kernel of one more token afterwards
    #[arg(long, help_heading = "Output")]
    pub(crate) profile: bool,
    /// Print nothing but the text
    #[arg(short, long, conflicts_with_all = ["stats", "profile"], help_heading = "Output")]
    pub(crate) quiet: bool,
}

/// How weights are held.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Precision {
    /// 32 bits
    F32,
    /// 16 bits, IEEE
    F16,
    /// 16 bits, the upper half of f32
    Bf16,
}

impl From<Precision> for Dtype {
    fn from(precision: Precision) -> Self {
        match precision {
            Precision::F32 => Self::F32,
            Precision::F16 => Self::F16,
            Precision::Bf16 => Self::Bf16,
        }
    }
}

impl Run {
    /// Flag, else the checkpoint's default, else llama.cpp's.
    pub(crate) fn sampling(&self, checkpoint: &GenerationConfig) -> Sampling {
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
