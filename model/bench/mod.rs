//! Benchmarks of every kernel at the shapes of a model, and of whole tokens, each compared with the device's ceilings.

mod kernels;
mod masks;
mod tokens;

pub use kernels::{KernelTiming, kernels, launched};
pub use masks::masks;
pub use ruminate_engine::bench::{Ceiling, Ceilings, Costs, Sample};
pub(crate) use tokens::time;
pub use tokens::{Line, Phase, TokenTiming, Tokens, tokens};
