//! Attention over a paged KV cache, for any mix of rows: prefill, decode, several sequences, different recurrence steps.
//!
//! Three launches per layer: **rotary_kv** adds the q and k biases, rotates, and writes the cache; **attention** scores and sums, with the keys split over
//! workgroups; **combine** joins the splits. Rows that are alone in their sequence take two launches: **attention_fresh** also does the work of rotary_kv.
//! Prompts are faster with **attention_tiled**, which processes tiles of rows that share keys. Models that norm queries and keys run **qk_norm** first.
//!
//! A row sees the positions of its own sequence up to its own. Tables determine which of a position's stored steps it sees; see [`cache`].

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

/// Largest head dimension that the kernels support.
pub const MAX_HEAD_DIM: u32 = 128;
