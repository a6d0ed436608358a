//! Attention over a paged KV cache, for any mix of rows: prefill, decode, several sequences, different recurrence steps.
//!
//! Three launches per layer: **rotary_kv** adds the q and k biases, rotates and writes the cache; **attention** scores and sums,
//! the keys split over workgroups; **combine** joins the splits. Rows that are alone in their sequence take two: **attention_fresh** does the work of the first
//! as well. Prompts are faster in tiles of rows that share keys: **attention_tiled**. Models that norm queries and keys have **qk_norm** before them. A row sees the positions of its own sequence up to its own.
//! Which of a position's stored steps it sees is data; see [`cache`].

pub mod cache;

mod combine;
mod fresh;
mod lanes;
mod qk_norm;
mod reference;
mod rotary_kv;
mod split;
mod testbed;
mod tiled;

pub use combine::{COMBINE, CombineParams, combine};
pub use fresh::{ATTENTION_FRESH, attention_fresh, fresh_pays};
pub use lanes::ATTENTION_LANES;
pub use qk_norm::{QK_NORM, QkNormParams, qk_norm};
pub use rotary_kv::{ROTARY_KV, RotaryKv, RotaryKvParams, rotary_kv};
pub use split::{ATTENTION, Attention, AttentionParams, attention, partial_bytes, preferred_splits};
pub use tiled::{ATTENTION_TILED, attention_variants, beside};

pub(crate) use tiled::trials;

/// Largest head dimension that the kernels hold.
pub const MAX_HEAD_DIM: u32 = 128;
