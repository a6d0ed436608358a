//! Runs recurrent-depth language models on any Vulkan, Metal or DX12 GPU, or on the CPU.
//!
//! A recurrent-depth model applies the same core block r times per token. r is chosen at run time, so the same weights can think longer on request. The first
//! such model is Huginn-0125 (Geiping et al., arXiv 2502.05171).
//!
//! ```no_run
//! use ruminate::{Device, GenerateOptions, LoadOptions, Model, OpenOptions, SessionOptions, Source};
//!
//! # fn main() -> Result<(), ruminate::Error> {
//! let device = Device::open(&OpenOptions::default())?;
//! let model = Model::open(&Source::dir("huginn-0125")?, &device, LoadOptions::default())?;
//! let mut session = model.session(SessionOptions { seed: 7, ..SessionOptions::default() })?;
//!
//! let options = GenerateOptions { steps: Some(16), max_tokens: Some(100), ..GenerateOptions::default() };
//! let mut generation = session.generate("The capital of Westphalia is", &options)?;
//! while let Some(piece) = generation.next() {
//!     let piece = piece?;
//!     print!("{}", piece.text);
//!     if piece.text.contains('\n') {
//!         break; // stop early: the session can go on from here
//!     }
//! }
//! let statistics = generation.statistics();
//! println!("{} tokens, {:.1} tokens/s", statistics.tokens, statistics.decode_rate());
//! # Ok(())
//! # }
//! ```
//!
//! [`quantize()`] writes a model with fewer bits per weight to a folder, from which it is loaded without further rounding. [`LoadOptions::dtype`] rounds
//! weights while loading, with the same result. [`SessionOptions::kv_dtype`] sets the dtype of keys and values.
//!
//! Tokens are chosen on the device. [`GenerateOptions`] has temperature, filters, penalties ([`Sampling`], [`Dry`]) and biases, and returns log-probabilities
//! on request. [`GenerateOptions::exit`] sets early exit, and [`GenerateOptions::noise`] adds noise between steps.
//!
//! [`Model::generate_options`] returns the defaults of a checkpoint (`generation_config.json`). [`ChatTemplate::encode`] encodes a conversation. Special tokens
//! spelled out in its messages remain plain text by default, as with [`Tokenizer::encode_plain`].
//!
//! [`GenerateOptions::constraint`] makes text follow a JSON schema, a regular expression or a grammar ([`Constraint`]).
//!
//! [`GenerateOptions::speculate`] and [`GenerateOptions::pipeline`] compute ahead of the known tokens, so that the same text takes fewer passes over the
//! weights. [`GenerateOptions::diffusion`] goes further and changes the text, as the authors' diffusion forcing does. [`Model::batch`] lets several sequences
//! share passes, each at its own depth. [`Model::likelihoods`] scores continuations of any lengths together.
//!
//! [`Session::save`] writes a session to a file, from which [`Model::resume`] continues token for token. [`Session::fork`] creates another session from the
//! computed part of one, for example from a prompt that many sessions start with.
//!
//! [`Model::demo`] loads a tiny trained model that is part of the crate.
//!
//! [`Session::forward`] and the stepwise calls are for research. States can be passed in, iterated one step at a time, and read. They can be changed between
//! steps for steering and activation patching ([`Session::set_states`], [`Session::iterate_with`]). The outputs of chosen layers can be kept at every step or
//! written to a file ([`Session::iterate_keeping`], [`Latents`]). [`Outputs::statistics`] returns the statistics of the authors' code for every row. See
//! `examples/steering.rs`.

// Items used by a single feature do not get conditions of their own: the lints hold for the library with all features.
#![cfg_attr(
    not(all(feature = "chat", feature = "files", feature = "tokenizer", feature = "tools")),
    allow(dead_code, unused_imports, reason = "parts of the library use them")
)]

mod arch;
mod assets;
#[cfg(feature = "tools")]
pub mod bench;
mod cancel;
#[cfg_attr(not(feature = "chat"), path = "chat/absent.rs")]
mod chat;
mod checkpoint;
mod codes;
mod constraint;
mod decoding;
#[cfg(feature = "demo")]
pub mod demo;
mod diffusion;
#[cfg(feature = "tools")]
pub mod doctor;
mod early_exit;
mod error;
mod fields;
#[cfg(feature = "files")]
mod format;
mod forward;
mod generate;
mod generation;
mod generation_config;
mod json;
mod kv;
mod kv_pages;
mod kv_sharing;
mod latents;
mod likelihood;
mod memory_budget;
mod model;
mod noise;
mod options;
#[cfg(feature = "files")]
mod output;
mod parallel_decoding;
mod plans;
mod poll;
mod precision;
#[cfg(feature = "tools")]
mod quantize;
mod rules;
mod sampling;
mod schedule;
pub mod score;
mod sequence_tables;
#[cfg(feature = "serde")]
mod serialize;
mod session;
mod snapshot;
mod source;
pub mod statistics;
mod stepwise;
mod stop;
#[cfg(feature = "tools")]
pub mod sweep;
mod synthetic;
mod text_output;
#[cfg_attr(not(feature = "tokenizer"), path = "tokenizer/absent.rs")]
mod tokenizer;
#[cfg(feature = "tools")]
pub mod trace;
#[cfg(feature = "tools")]
pub mod tune;
mod warm;

pub use arch::{
    Layers, Llama3Scaling, Norms, OuterNorms, Pairs, PostNorm, Published, Rotary, Spec, SpecialIds, Start, Steps,
    architectures, published,
};
pub use assets::{Asset, Assets, ReadAt};
pub use cancel::CancelToken;
pub use chat::{ChatTemplate, Message};
pub use checkpoint::{Checkpoint, Expected, SafetensorsProblem, ShardIndex, TensorInfo, TensorView, UnusedTensor};
pub use codes::ERROR_CODES;
pub use parallel_decoding::{Pipeline, Speculate};

pub use constraint::{Constraint, ConstraintKind};
pub use diffusion::{Diffusion, Freezing, Given, NoiseMix};
pub use early_exit::{Exit, PrefillExit};
pub use error::{ContentProblem, Error, TensorProblem};
pub use forward::Forward;
pub use generate::{Generation, Piece, Progress, Prompt, Statistics, StopReason};
pub use generation_config::{GenerationConfig, InvalidField};
pub use json::parse_json;
pub use kv_sharing::KvSharing;
pub use latents::{Latents, Layer};
pub use likelihood::{Continuation, Likelihood, LikelihoodOptions};
pub use memory_budget::{Extent, Fits, Need, Shortage};
pub use model::Model;
pub use noise::Noise;
pub use options::{GenerateOptions, LoadOptions, SessionOptions, State, StepsOf};
#[cfg(feature = "files")]
pub use output::OutputFile;
pub use precision::{Dtypes, Group, Precision};
#[cfg(feature = "tools")]
pub use quantize::{QuantizeOptions, Quantized, quantize};
pub use ruminate_engine as engine;
pub use ruminate_engine::wgpu;
pub use ruminate_engine::{
    AdapterSummary, Counters, Device, Kind, Memory, OpenOptions, PipelineCache, Profile, REQUIRED_LIMITS, Select,
    Tuned, Tuning, TuningFrom, adapters, backend,
};
pub use ruminate_shaders::attention::cache::{KV_DTYPES, KvShare, Lookup};
pub use ruminate_shaders::exit::{Continuous, Criterion};
pub use ruminate_shaders::matmul::{Arithmetic, ManyRows};
pub use ruminate_shaders::recur::NoiseKind;
pub use ruminate_shaders::wavefront::FreezeRule;
pub use ruminate_shaders::{Caps, Dtype, KERNELS};
pub use sampling::{Dry, MAX_LOGPROBS, Sampling};
pub use schedule::policy::{Combination, excluded_combinations};
pub use schedule::{Batch, BatchOptions, Event, PromptToken, SequenceId, Totals};
pub use session::{INVARIANT_ROWS, MAX_STEPS, Session};
pub use snapshot::SnapshotProblem;
pub use source::{Bytes, FileStart, Headers, Source};
pub use stepwise::Outputs;
pub use stop::StopStrings;
pub use synthetic::{Synthetic, SyntheticTensor, Values};
pub use tokenizer::{Specials, StreamDecoder, Tokenizer};
