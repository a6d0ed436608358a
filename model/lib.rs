//! Run language models that think in loops on any Vulkan, Metal or DX12 GPU, or on the CPU.
//!
//! A recurrent-depth model applies the same core block r times per token; r is chosen at run time, so the same weights think longer
//! when asked to. The first of them is Huginn-0125 (Geiping et al., arXiv 2502.05171).
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
//! [`quantize()`] writes a model in fewer bits into a folder, from which it is loaded as it is; [`LoadOptions::dtype`] rounds while loading, to the same
//! numbers. [`SessionOptions::kv_dtype`] does the same for keys and values.
//!
//! Tokens are chosen on the device: [`GenerateOptions`] has temperature, filters and penalties ([`Sampling`], [`Dry`]) and biases, and gives
//! log-probabilities on request. [`GenerateOptions::exit`] and [`GenerateOptions::noise`] are about the steps.
//!
//! [`Model::generate_options`] gives the defaults that come with a checkpoint (`generation_config.json`), to begin with. [`ChatTemplate::encode`] makes tokens of a
//! conversation; special tokens that its messages spell stay plain text, as with [`Tokenizer::encode_plain`], unless asked for.
//!
//! [`GenerateOptions::constraint`] has text follow a JSON schema, a regular expression or a grammar ([`Constraint`]).
//!
//! [`GenerateOptions::speculate`] and [`GenerateOptions::pipeline`] compute ahead of what is known, so that the same text takes fewer passes over the weights;
//! [`GenerateOptions::diffusion`] goes further and changes it, as the authors' diffusion forcing does;
//! [`Model::batch`] lets several sequences share their passes, each at its own depth; [`Model::likelihoods`] scores continuations of any lengths together.
//!
//! [`Session::save`] writes a session into a file, from which [`Model::resume`] goes on, token for token; [`Session::fork`] starts another session with what
//! one has computed already, such as a prompt that many begin with.
//!
//! [`Model::demo`] is a tiny trained model that is part of the crate. [`Session::forward`] and the step-wise calls beside it are for research:
//! states can be handed in, iterated one step at a time, and read back; changed between the steps ([`Session::set_states`], [`Session::iterate_with`]: steering and
//! activation patching); and what chosen layers come to at every step is kept or written into a file ([`Session::iterate_keeping`], [`Latents`]).
//! [`Outputs::statistics`] gives the authors' figures of every row. `examples/steering.rs` shows how.

// What one feature uses alone is not worth a condition on every item: the lints hold for the library as a whole.
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
pub use session::{MAX_STEPS, Session};
pub use snapshot::SnapshotProblem;
pub use source::{Bytes, FileStart, Headers, Source};
pub use stepwise::Outputs;
pub use stop::StopStrings;
pub use synthetic::{Synthetic, SyntheticTensor, Values};
pub use tokenizer::{Specials, StreamDecoder, Tokenizer};
