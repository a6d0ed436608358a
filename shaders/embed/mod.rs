//! Gathers: embeddings of token ids into rows, and rows to read out into a dense block.

mod embedding;
mod select;

pub use embedding::{EMBED, Embed, EmbedParams, embed};
pub use select::{SELECT, SelectParams, select};
