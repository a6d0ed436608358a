//! From logits to the next token, without leaving the device: argmax, sampling, and feeding the choice back as a row.

mod argmax;
mod feed;
mod reference;
mod sampling;

pub use argmax::{ARGMAX, ArgmaxParams, argmax};
pub use feed::{FEED, FeedParams, feed};
pub use sampling::{SAMPLE, SampleParams, Sampler, sample, seen_bytes};
