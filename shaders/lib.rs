//! Hand-written WGSL kernels for recurrent-depth language models, each next to its description, launch arithmetic, CPU reference and cases. This crate makes no GPU
//! call and does not depend on any model.
//!
//! A kernel lives in one folder: `norm/rms_norm.wgsl` is the WGSL, `norm/mod.rs` everything else. One line in [`KERNELS`] has it validated and translated,
//! tested on every adapter, benchmarked, and runnable on the CPU.
//!
//! `docs/experiments.md` in the repository records the optimizations that were tried, with measurements.

mod assemble;
mod caps;
mod case;
mod cases;
mod kernel;
mod row;
mod shared;
mod slots;
mod variants;

pub mod attention;
pub mod batch;
pub mod ceiling;
pub mod embed;
pub mod exit;
pub mod matmul;
pub mod mlp;
pub mod norm;
pub mod recur;
pub mod reduce;
pub mod sample;
pub mod speculative;
pub mod wavefront;
pub mod weight;

pub use assemble::assemble;
pub use caps::{Caps, Cooperative};
pub use case::{Case, Check, Data, Noise, Product, Workload};
pub use cases::{case_ids, find_case};
pub use kernel::{
    Access, Axis, Binding, Choice, Cost, Kernel, LANES, Launch, MAX_AXES, Params, Part, Place, TEXTURE_WIDTH,
    UNIFORM_BYTES,
};
pub use recur::Threefry;
pub(crate) use row::TABLE_ROWS;
pub use row::{NONE, ROW, Row, Sequence, WAITS, activation_bytes, stride};
pub use shared::{Const, Field, Struct, Value};
pub use slots::{Slot, Slots};
pub use variants::{Trial, Variants, case_trials, trials};
pub use weight::Dtype;

/// Every kernel of the project.
pub static KERNELS: &[&Kernel] = &[
    &weight::RANDOM_WEIGHT,
    &weight::PACK,
    &embed::EMBED,
    &embed::SELECT,
    &norm::RMS_NORM,
    &norm::FUSED_SUMS,
    &norm::NORM_ADD,
    &matmul::MATVEC,
    &matmul::MATVEC_INT8,
    &matmul::MATMUL_TILED,
    &matmul::MATMUL_TILED_INT8,
    &matmul::MATMUL_COOPERATIVE,
    &matmul::MATMUL_LANES,
    &matmul::STAGE,
    &matmul::ROUND_ROWS,
    &attention::QK_NORM,
    &attention::ROTARY_KV,
    &attention::ATTENTION,
    &attention::ATTENTION_TILED,
    &attention::ATTENTION_LANES,
    &attention::ATTENTION_FRESH,
    &attention::COMBINE,
    &recur::INIT_STATE,
    &recur::START_STATE,
    &recur::NOISE,
    &recur::ADVANCE,
    &recur::ADVANCE_UNTIL,
    &exit::EXIT_BEGIN,
    &exit::EXIT_STATE,
    &exit::EXIT_READOUT,
    &exit::EXIT_GATE,
    &exit::EXIT_KEEP,
    &exit::EXIT_LEAVE,
    &exit::EXIT_WAKE,
    &exit::GATE,
    &sample::penalize::PENALIZE,
    &sample::ARGMAX,
    &sample::SAMPLE,
    &sample::LOGPROBS,
    &sample::FEED,
    &speculative::ENLIST,
    &speculative::VERIFY,
    &speculative::GUESS,
    &batch::BATCH_WAKE,
    &batch::FOLLOW,
    &batch::CARRY,
    &wavefront::WAVEFRONT_BLEND,
    &wavefront::WAVEFRONT_MIX,
    &wavefront::WAVEFRONT_COMPARE,
    &wavefront::WAVEFRONT_FREEZE,
    &wavefront::WAVEFRONT_SHIFT,
    &ceiling::STREAM,
    &ceiling::COPY,
    &ceiling::MULTIPLY_ADD,
    &ceiling::DOT_INT8,
    &ceiling::MULTIPLY_MATRICES,
];
